"""Small files of judgments: JSON Lines, CSV or Parquet, read as text and numbers."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from transforms.errors import UsageError
from transforms.storage.files import open_read

Row = dict[str, Any]
_PERCENTILES = (5, 25, 50, 75, 95)
_LISTED = 10


def read_rows(path: str, argument: str, *choices: Sequence[str]) -> tuple[list[Row], Sequence[str]]:
    """The rows of a file, and which of the choices they fit.

    Args:
      path: of a file whose name ends in .jsonl, .csv or .parquet; its rows fit into memory.
      argument: the option that named it.
      choices: columns that each row must have, the first of several sets that the first row has.

    Raises:
      UsageError: the file cannot be read, or lacks a column.
    """
    kinds = {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet}
    kind = path.rpartition(".")[2].lower()
    if kind not in kinds:
        raise UsageError(f"{argument} {path}: expected a .jsonl, .csv or .parquet file", argument=argument)
    try:
        with open_read(path) as f:
            rows = kinds[kind](f.read())
    except (OSError, ValueError, csv.Error) as e:
        reason = getattr(e, "strerror", None) or str(e).splitlines()[0]
        raise UsageError(f"{argument} {path}: cannot be read: {reason}", argument=argument) from e
    if not rows:
        raise UsageError(f"{argument} {path}: holds no rows", argument=argument)
    wanted = next((one for one in choices if all(name in rows[0] for name in one)), None)
    if wanted is None:
        sets = " or ".join(", ".join(one) for one in choices)
        raise UsageError(
            f"{argument} {path}: expected columns {sets}; it has {', '.join(rows[0])}", argument=argument
        )
    for number, row in enumerate(rows, 1):
        if missing := [name for name in wanted if row.get(name) in (None, "")]:
            raise UsageError(f"{argument} {path}: row {number} has no {missing[0]}", argument=argument)
    return rows, wanted


def number(row: Row, name: str, where: str) -> float:
    """A row's number.

    Raises:
      UsageError: it is none.
    """
    try:
        value = float(row[name])
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{where}: {name} {row[name]!r}: expected a number")
    return value


def spread(values: np.ndarray) -> dict[str, float]:
    """Percentiles by name: p5, p25, p50, p75, p95."""
    found = np.percentile(values, _PERCENTILES).tolist()
    return {f"p{name}": round(value, 6) for name, value in zip(_PERCENTILES, found, strict=True)}


def listed(columns: Mapping[str, Any], order: np.ndarray) -> list[Row]:
    """The first ten rows of some columns in an order, numbers rounded."""

    def plain(value: Any) -> Any:
        value = value.as_py() if hasattr(value, "as_py") else value
        return round(float(value), 6) if isinstance(value, float | np.floating) else value

    return [{name: plain(column[at]) for name, column in columns.items()} for at in order[:_LISTED].tolist()]


def _jsonl(data: bytes) -> list[Row]:
    lines = enumerate(data.splitlines(), 1)
    return [_object(line, place) for place, line in lines if line.strip()]


def _object(line: bytes, place: int) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as e:
        reason = e.msg if isinstance(e, json.JSONDecodeError) else "not UTF-8, or nested too deep"
        raise ValueError(f"line {place} is not JSON: {reason}") from e
    if not isinstance(row, dict):
        raise ValueError(f"line {place} is no JSON object")
    return row


def _csv(data: bytes) -> list[Row]:
    csv.field_size_limit(2**31 - 1)  # a cell may be a whole document
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    for place, row in enumerate(rows, 1):
        if None in row:
            raise ValueError(f"row {place} has more cells than the header; is a comma not in quotes?")
    return rows


def _parquet(data: bytes) -> list[Row]:
    import pyarrow.parquet as pq

    return pq.read_table(io.BytesIO(data)).to_pylist()
