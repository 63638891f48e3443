"""Points with what a page shows of each: its document, and a colour by any field."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

COMMONEST = 10
NONE = "(none)"
TEXT_CHARACTERS = 240
_NAME_CHARACTERS = 60

# Petroff, "Accessible Color Sequences for Data Visualization" (2021): ten colours that people with any kind
# of colour vision tell apart, on white and on black. The last five are drawn as diamonds, since two are grey;
# what is not among the ten commonest is a pale ring.
COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#832db6",
    "#92dadb",
    "#e76300",
    "#b9ac70",
    "#a96b59",
    "#717581",
    "#94a4a2",
)
OTHER_COLOUR = "#9a9a9a"


def shortened(text: str, most: int) -> str:
    """The beginning of a text on one line.

    >>> shortened("a  long\\ntext", 6)
    'a lon…'
    """
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def names(table: pa.Table) -> list[str]:
    """What each row is called: its document's id, and the number of the chunk where a row is one."""
    ids = table["doc_id"].to_pylist()
    if "chunk" not in table.column_names:
        return ids
    return [f"{one} #{chunk}" for one, chunk in zip(ids, table["chunk"].to_pylist(), strict=True)]


def colouring(values: Sequence[Any]) -> dict[str, Any]:
    """How points are coloured by a field.

    Returns:
      `kind` is number, with `values` (None where there is none); or category, with `names` (of all values,
      the commonest first), `counts` of each, and `values` (each point's place among them).
    """
    if _is_number(values):
        return {"kind": "number", "values": [_finite(value) for value in values]}
    texts = [NONE if value is None else shortened(_text(value), _NAME_CHARACTERS) or '""' for value in values]
    counted = Counter(texts)
    ranked = sorted(counted, key=lambda text: (-counted[text], text))
    number = {text: i for i, text in enumerate(ranked)}
    counts = [counted[text] for text in ranked]
    return {"kind": "category", "names": ranked, "counts": counts, "values": [number[t] for t in texts]}


def _is_number(values: Sequence[Any]) -> bool:
    """Numbers that are more than a few codes."""
    known = [value for value in values if value is not None]
    if not known or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in known):
        return False
    return len(set(known)) > COMMONEST or any(isinstance(value, float) for value in known)


def _finite(value: Any) -> float | int | None:
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def page_data(
    table: pa.Table, places: np.ndarray, *, fields: Sequence[str], first: str | None = None
) -> dict[str, Any]:
    """What the page's script draws.

    Args:
      table: rows with doc_id (and chunk, text) and the fields.
      places: float32 [rows, 2 or 3]; a row of NaN is left out.
      fields: by which points can be coloured.
      first: the field by which they are at first; None means the first one.
    """
    shown = np.flatnonzero(np.isfinite(places).all(axis=1))
    table, places = table.take(shown), places[shown]
    data: dict[str, Any] = {"ids": names(table), "places": {}, "fields": {}, "first": first}
    for axis, column in zip("xyz", places.T, strict=False):
        data["places"][axis] = [float(f"{value:.5g}") for value in column.tolist()]
    if "text" in table.column_names:
        data["texts"] = [shortened(text, TEXT_CHARACTERS) for text in table["text"].to_pylist()]
    for field in fields:
        data["fields"][field] = colouring(table[field].to_pylist())
    return data
