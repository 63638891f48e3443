"""The ids of the documents that are to be forgotten, from a file."""

from __future__ import annotations

import sys

from pipeline.evaluation.tables import read_rows
from transforms.errors import UsageError
from transforms.storage.files import open_read

_TABLES = (".jsonl", ".csv", ".parquet")


def read_ids(path: str) -> list[str]:
    """The ids that a file names: a line each, or the column doc_id (or id) of JSON Lines, CSV or Parquet.

    Args:
      path: of a local file or in a store; - is the standard input, a line an id.

    Returns:
      Each once, in the order of the file; in memory.

    Raises:
      UsageError: it cannot be read, or names none.
    """
    if path.lower().endswith(_TABLES):
        rows, (name,) = read_rows(path, "ids", ("doc_id",), ("id",))
        found = [str(row[name]) for row in rows]
    else:
        try:
            text = _read(path).decode("utf-8-sig")
        except (OSError, ValueError) as e:
            reason = getattr(e, "strerror", None) or str(e)
            raise UsageError(f"ids {path}: cannot be read: {reason}", argument="ids") from e
        found = [line.removesuffix("\r") for line in text.split("\n")]
    ids = list(dict.fromkeys(filter(None, found)))
    if not ids:
        raise UsageError(f"ids {path}: names no document; expected an id a line", argument="ids")
    try:
        "\n".join(ids).encode()
    except UnicodeEncodeError as e:
        raise UsageError(f"ids {path}: holds an id that is no text: {e.reason}", argument="ids") from e
    return ids


def _read(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read()
    with open_read(path) as f:
        return f.read()
