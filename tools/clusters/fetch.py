"""Fetches what the local clusters run: Flink's, Spark's and Beam's jars, Prism, fake-gcs-server.

    python tools/clusters/fetch.py [flink spark prism fake-gcs-server]

Each goes below the cache folder ($EMBEDBEAM_CACHE, or ~/.cache/embedbeam), once.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from java import write_pathing_jar

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("EMBEDBEAM_CACHE") or "~/.cache/embedbeam").expanduser().resolve()
CLUSTERS = CACHE / "clusters"

# Carries Spark's own jars: the newest release of 3.5, the line that Beam's spark-3 runner is built for.
PYSPARK = "3.5.9"
# One fixed release, so that the answers it gives to tests do not change; this one builds.
FAKE_GCS_SERVER = "v1.52.2"

# What Spark ships itself must not come a second time, in Beam's version: their parts belong together.
SPARKS_OWN = re.compile(
    r"(spark|scala|slf4j|log4j|jul|jcl|json4s|jackson|hadoop|netty|arrow|xbean|avro-1|zstd|snappy|parquet)"
)


class FetchError(Exception):
    """Something could not be fetched; one line says what and why."""


def fetch_flink() -> Path:
    """A folder with `lib/` (Flink and Beam's Flink runner) and `job-server.jar`."""

    def fill(folder: Path, final: Path) -> None:
        copy_jars("flink.pom.xml", folder / "lib")
        jars = [final / "lib" / jar.name for jar in sorted((folder / "lib").iterdir())]
        write_pathing_jar(
            folder / "job-server.jar", main="org.apache.beam.runners.flink.FlinkJobServerDriver", jars=jars
        )

    return once("flink", (HERE / "flink.pom.xml").read_text(), fill)


def fetch_spark() -> Path:
    """A SPARK_HOME whose `jars/` have Beam's Spark runner, too, and `job-server.jar`."""

    def fill(folder: Path, final: Path) -> None:
        copy_jars("spark.pom.xml", folder / "beam")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
        call([*pip, "--target", str(folder / "pip"), f"pyspark=={PYSPARK}"], what=f"pyspark {PYSPARK}")
        jars = folder / "jars"
        (folder / "pip" / "pyspark" / "jars").rename(jars)
        spark = {artifact(jar): jar for jar in jars.iterdir()}
        for jar in (folder / "beam").iterdir():
            if SPARKS_OWN.match(jar.name):
                continue
            if artifact(jar) in spark:  # such as Guava: Spark's 14 breaks Beam's GCS classes
                spark[artifact(jar)].unlink()
            jar.rename(jars / jar.name)
        shutil.rmtree(folder / "pip")
        shutil.rmtree(folder / "beam")
        names = [final / "jars" / jar.name for jar in sorted(jars.iterdir())]
        write_pathing_jar(
            folder / "job-server.jar", main="org.apache.beam.runners.spark.SparkJobServerDriver", jars=names
        )

    return once("spark", (HERE / "spark.pom.xml").read_text() + PYSPARK, fill)


def fetch_prism() -> Path:
    """Beam's Go runner, in the version of the installed apache-beam."""
    try:
        beam = version("apache-beam")
    except PackageNotFoundError as e:
        raise FetchError("prism: apache-beam is not installed in this Python; run `make install`") from e
    return go_install("prism", f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{beam}")


def fetch_fake_gcs_server() -> Path:
    """A server that speaks Google Cloud Storage's protocol."""
    return go_install("fake-gcs-server", f"github.com/fsouza/fake-gcs-server@{FAKE_GCS_SERVER}")


FETCH: dict[str, Callable[[], Path]] = {
    "flink": fetch_flink,
    "spark": fetch_spark,
    "prism": fetch_prism,
    "fake-gcs-server": fetch_fake_gcs_server,
}


def once(name: str, recipe: str, fill: Callable[[Path, Path], None]) -> Path:
    """Returns CLUSTERS/name, filled by `fill(temporary, final)` unless the same recipe filled it before."""
    final = CLUSTERS / name
    digest = hashlib.sha256((recipe + str(final)).encode()).hexdigest()
    if is_filled(final, digest):
        return final
    CLUSTERS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=CLUSTERS) as temporary:
        folder = Path(temporary) / "new"
        folder.mkdir()
        fill(folder, final)
        (folder / "complete").write_text(digest)
        if is_filled(final, digest):
            return final  # another process was faster
        try:
            if final.exists():
                final.rename(Path(temporary) / "old")
            folder.rename(final)
        except OSError as e:
            if not is_filled(final, digest):
                raise FetchError(f"{name}: cannot move it to {final}: {e}") from e
    return final


def is_filled(folder: Path, digest: str) -> bool:
    try:
        return (folder / "complete").read_text() == digest
    except OSError:
        return False


def copy_jars(pom: str, folder: Path) -> None:
    """Lets Maven put the jars that `pom` needs into `folder`."""
    # Pinned: without a version Maven takes the newest, which may need a newer Maven.
    goal = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
    require_java()
    command = ["mvn", "-q", "-B", "-f", str(HERE / pom), goal, f"-DoutputDirectory={folder}"]
    CLUSTERS.mkdir(parents=True, exist_ok=True)
    with open(CLUSTERS / "maven.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two Mavens that fill one empty repository spoil its files
        call([*command, "-DincludeScope=runtime"], what=pom)


def go_install(name: str, module: str) -> Path:
    def fill(folder: Path, final: Path) -> None:
        call(["go", "install", module], what=name, environment={"GOBIN": str(folder)})

    return once(name, module, fill) / name


def call(command: list[str], *, what: str, environment: dict[str, str] | None = None) -> None:
    program = command[0]
    if shutil.which(program) is None:
        raise FetchError(f"{what}: `{program}` is not on the PATH; install it and run this again")
    done = subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        why = next((line for line in lines if "ERROR" in line), lines[-1] if lines else "no message")
        raise FetchError(f"{what}: `{program}` ended with code {done.returncode}: {why[:400]}")


def artifact(jar: Path) -> str:
    """The artifact's name: `guava` for guava-33.5.0-android.jar."""
    return re.split(r"-(?=\d)", jar.name)[0]


def require_java() -> None:
    if shutil.which("java") is None:
        raise FetchError("`java` is not on the PATH; install Java 17 and run this again")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FETCH) + " (default: all)")
    names = parser.parse_args(arguments).names or list(FETCH)
    for name in names:
        if name not in FETCH:
            parser.error(f"nothing is called {name!r}; expected some of: {', '.join(FETCH)}")
    failed = 0
    with ThreadPoolExecutor(len(names)) as pool:  # they wait for the network
        for name, future in [(name, pool.submit(FETCH[name])) for name in names]:
            try:
                print(f"{name}: {future.result()}", flush=True)
            except FetchError as e:
                failed = 1
                print(f"error: {e}", file=sys.stderr, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
