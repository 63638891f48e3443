"""Searches an output folder for words that must be gone: in names, in bytes, and in what is compressed."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path

import zstandard


def decompressed(path: Path) -> Iterator[bytes]:
    """A file's bytes, and what the frames and streams in it hold."""
    data = path.read_bytes()
    yield data
    if path.suffix == ".gz":
        yield gzip.decompress(data)
    at = data.find(b"\x28\xb5\x2f\xfd")
    while at >= 0:
        with contextlib.suppress(zstandard.ZstdError):
            yield zstandard.ZstdDecompressor().decompressobj().decompress(data[at:])
        at = data.find(b"\x28\xb5\x2f\xfd", at + 1)


def traces(folder: Path | str, words: Iterable[str]) -> set[str]:
    """Files, and names of files, that have one of the words."""
    found, words = set(), list(words)
    for path in Path(folder).rglob("*"):
        if any(word in str(path) for word in words):
            found.add(str(path))
        if path.is_file():
            every = b"\n".join(decompressed(path))
            found |= {str(path) for word in words if word.encode() in every}
    return found
