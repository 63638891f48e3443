"""Points with what a page shows of each: its document, and a colour by any field."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from transforms.output.schema import RowSchema

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


def names(table: pa.Table, *, chunks: bool) -> list[str]:
    """What each row is called: its document's id, and the number of the chunk where rows are `chunks`."""
    ids = table["doc_id"].to_pylist()
    if not chunks:
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
    texts = [None if value is None else _text(value) for value in values]
    counted = Counter(texts)
    ranked = sorted(counted, key=lambda text: (-counted[text], text or ""))
    number = {text: i for i, text in enumerate(ranked)}
    named = told_apart([NONE if text is None else _name(text) or '""' for text in ranked])
    counts = [counted[text] for text in ranked]
    return {"kind": "category", "names": named, "counts": counts, "values": [number[t] for t in texts]}


def _name(text: str) -> str:
    """A value on one line; of a long one, as paths and URLs are, beginning and end."""
    line = " ".join(text.split()) if len(text) < 4 * _NAME_CHARACTERS else text
    half = _NAME_CHARACTERS // 2
    return line if len(line) <= _NAME_CHARACTERS else f"{line[: half - 1]}…{line[-half:]}"


def told_apart(names: Sequence[str]) -> list[str]:
    """Names of which no two are the same: a legend would make one of them.

    >>> told_apart(["a", "b", "a"])
    ['a', 'b', 'a (2)']
    """
    seen: Counter[str] = Counter()
    made = []
    for name in names:
        seen[name] += 1
        made.append(f"{name} ({seen[name]})" if seen[name] > 1 else name)
    return made


def _is_number(values: Sequence[Any]) -> bool:
    """Numbers that are more than a few codes, and that JavaScript can tell apart."""
    known = [value for value in values if value is not None]
    if any(isinstance(value, int) and abs(value) > 2**53 for value in known):
        return False
    if not known or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in known):
        return False
    return len(set(known)) > COMMONEST or any(isinstance(value, float) for value in known)


def _finite(value: Any) -> float | int | None:
    if value is None or not math.isfinite(value):
        return None
    return value


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def page_data(
    table: pa.Table, places: np.ndarray, has: RowSchema, *, fields: Sequence[str], first: str | None = None
) -> dict[str, Any]:
    """What the page's script draws.

    Args:
      table: rows with doc_id (and chunk, text) and the fields.
      has: tells whether rows are chunks, and whether their text was kept.
      places: float32 [rows, 2 or 3]; a row of NaN is left out.
      fields: by which points can be coloured.
      first: the field by which they are at first; None means the first one.
    """
    shown = np.flatnonzero(np.isfinite(places).all(axis=1))
    table, places = table.take(shown), places[shown]
    data: dict[str, Any] = {
        "ids": names(table, chunks=has.chunks),
        "places": {},
        "fields": {},
        "first": first,
    }
    for axis, column in zip("xyz", places.T, strict=False):
        data["places"][axis] = [float(f"{value:.5g}") for value in column.tolist()]
    if has.keep_text:
        data["texts"] = [shortened(text, TEXT_CHARACTERS) for text in table["text"].to_pylist()]
    for field in fields:
        data["fields"][field] = colouring(table[field].to_pylist())
    return data
