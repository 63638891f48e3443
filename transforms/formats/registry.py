"""Which formats there are, how their files are named, and which of them can be cut."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from transforms.formats import compression

_TEXT_CODECS = ("", *compression.SUFFIXES)

_PLAIN = {
    "txt": (".txt", ".md"),
    "lines": (".lines",),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "csv": (".csv",),
    "tsv": (".tsv", ".tab"),
    "parquet": (".parquet", ".pq"),
    "tfrecord": (".tfrecord", ".tfrecords"),
}
_CODECS = {"parquet": ("",), "tfrecord": ("", ".gz")}

FORMATS: tuple[str, ...] = tuple(_PLAIN)

# Formats whose uncompressed files can be read in pieces: byte ranges of lines, row groups of Parquet.
SPLITTABLE: frozenset[str] = frozenset({"lines", "jsonl", "parquet"})

# Format -> the extensions it is known by, compressed ones included.
EXTENSIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        format: tuple(plain + codec for codec in _CODECS.get(format, _TEXT_CODECS) for plain in extensions)
        for format, extensions in _PLAIN.items()
    }
)
_FORMAT_OF = {extension: format for format, extensions in EXTENSIONS.items() for extension in extensions}


def format_of(path: str) -> str | None:
    """The format a file's name promises, whatever the case of its letters; None if it promises none.

    >>> format_of("a/b.jsonl.gz"), format_of("B.PQ"), format_of("b.parquet.gz"), format_of("README")
    ('jsonl', 'parquet', None, None)
    """
    _, *extensions = path.rpartition("/")[2].lower().split(".")
    for count in (2, 1):
        found = _FORMAT_OF.get("." + ".".join(extensions[-count:]))
        if found is not None:
            return found
    return None


def can_split(path: str, format: str) -> bool:
    """Whether slices of the file may start and end inside it.

    >>> can_split("a.jsonl", "jsonl"), can_split("a.jsonl.gz", "jsonl"), can_split("a.csv", "csv")
    (True, False, False)
    """
    return format in SPLITTABLE and (format == "parquet" or compression.compression_of(path) is None)
