"""Reading a slice of any format."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from transforms.elements import DeadLetter, Document, Slice
from transforms.formats.delimited import check_delimited, read_delimited
from transforms.formats.jsonl import read_jsonl
from transforms.formats.parquet import check_parquet, read_parquet
from transforms.formats.records import ReadOptions
from transforms.formats.text import check_text, read_lines, read_txt
from transforms.formats.tfrecord import check_tfrecord, read_tfrecord
from transforms.storage.files import check_unchanged, unreadable

_READ = {
    "lines": read_lines,
    "txt": read_txt,
    "jsonl": read_jsonl,
    "csv": read_delimited,
    "tsv": read_delimited,
    "parquet": read_parquet,
    "tfrecord": read_tfrecord,
}


def read_slice(slice: Slice, options: ReadOptions) -> Iterator[Document | DeadLetter]:
    """Reads a slice's documents in file order; their index is left 0.

    A sound record becomes a Document, any other a DeadLetter; both count towards the slice's limit.

    Raises:
      BadFileError: the file was changed since the plan was made, or cannot be read to the slice's end. What
        came before is then not to be used; check_slice tells in advance.
    """
    check_unchanged(slice)
    try:
        yield from itertools.islice(_READ[slice.format](slice, options), slice.limit)
        check_unchanged(slice)  # nor while it was read
    except OSError as e:
        raise unreadable(slice, e) from e


def check_slice(slice: Slice, options: ReadOptions) -> None:
    """Finds out, in constant memory, whether the slice can be read to its end.

    Compressed files are decompressed, TFRecord frames walked, CSV parsed, Parquet's needed columns read;
    plain text has nothing that could be wrong.

    Raises:
      BadFileError: as read_slice would.
    """
    if slice.limit is not None:
        for _ in read_slice(slice, options):
            pass
        return
    check_unchanged(slice)
    try:
        if slice.format in ("csv", "tsv"):
            check_delimited(slice, options)
        elif slice.format == "parquet":
            check_parquet(slice, options)
        elif slice.format == "tfrecord":
            check_tfrecord(slice)
        else:
            check_text(slice)
    except OSError as e:
        raise unreadable(slice, e) from e
