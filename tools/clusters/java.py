"""The command lines of the clusters' JVMs, and a jar that stands for a folder of jars."""

from __future__ import annotations

import zipfile
from pathlib import Path

# Beam, Flink and Spark reach into these packages by reflection, which Java 17 forbids unless they are opened.
PACKAGES = """
    java.lang java.lang.invoke java.lang.reflect java.io java.net java.nio java.text java.time java.util
    java.util.concurrent java.util.concurrent.atomic java.util.concurrent.locks
    sun.nio.ch sun.nio.cs sun.security.action sun.util.calendar
"""
OPENS = [f"java.base/{package}" for package in PACKAGES.split()]
EXPORTS = ["java.base/sun.net.util"]
OPTIONS = [
    *(f"--add-opens={package}=ALL-UNNAMED" for package in OPENS),
    *(f"--add-exports={package}=ALL-UNNAMED" for package in EXPORTS),
]


def java(
    main: str, *arguments: str, classpath: str, heap: str, folder: Path, options: tuple = ()
) -> list[str]:
    """A command that runs `main` in a small JVM with its temporary files below `folder`."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return [
        "java",
        *OPTIONS,
        f"-Xmx{heap}",
        "-XX:+UseSerialGC",  # several JVMs share one small machine
        "-XX:TieredStopAtLevel=1",  # they live for seconds: the second compiler does not pay
        f"-Djava.io.tmpdir={temporary}",
        *options,
        "-cp",
        classpath,
        main,
        *arguments,
    ]


def write_pathing_jar(path: Path, *, main: str, jars: list[Path]) -> None:
    """Writes a jar without classes: `java -jar` runs `main` with `jars` as the class path, in their order."""
    attributes = {
        "Manifest-Version": "1.0",
        "Main-Class": main,
        "Class-Path": " ".join(jar.as_uri() for jar in jars),
        "Add-Opens": " ".join(OPENS),
        "Add-Exports": " ".join(EXPORTS),
    }
    lines = "".join(fold(f"{name}: {value}") for name, value in attributes.items())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as jar:
        jar.writestr("META-INF/MANIFEST.MF", lines + "\r\n")


def fold(line: str) -> str:
    """A manifest's line in pieces of at most 72 bytes, line ends included; a space begins each but the first.

    >>> [len(piece) for piece in fold("a" * 141).splitlines()]
    [70, 70, 3]
    """
    pieces = [line[:70]] + [" " + line[at : at + 69] for at in range(70, len(line), 69)]
    return "".join(piece + "\r\n" for piece in pieces)


def write_empty_jar(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\n\r\n")
