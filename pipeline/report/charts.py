"""Small charts of plain elements: they fit any width, and need no script."""

from __future__ import annotations

from html import escape

import numpy as np


def bars(title: str, heights: np.ndarray, ends: tuple[str, str], *, hints: list[str], note: str = "") -> str:
    """Bars of these heights (0 and more) from the left to the right.

    Args:
      ends: what stands below the first bar and the last one.
      hints: what is said of each bar when it is pointed at.
      note: a line below the title.
    """
    top = float(heights.max(initial=0)) or 1.0
    drawn = "".join(
        f'<i style="height:{100 * height / top:.1f}%" title="{escape(hint)}"></i>'
        for height, hint in zip(heights.tolist(), hints, strict=True)
    )
    said = f"<small>{escape(note)}</small>" if note else ""
    axis = "".join(f"<span>{escape(end)}</span>" for end in ends)
    return (
        f'<figure><figcaption>{escape(title)}{said}</figcaption><div class="bars" role="img" '
        f'aria-label="{escape(title)}: {escape(note)}">{drawn}</div><div class="axis">{axis}</div></figure>'
    )


def histogram(
    title: str, values: np.ndarray, *, span: tuple[float, float] | None = None, note: str = ""
) -> str:
    """How many values lie in each of forty equal ranges; of integers as many in each, in forty at most.

    The last one holds what lies above nearly all others, too: a few large values would leave no room.

    Args:
      span: the range that is shown; None means that of the values.
    """
    if not len(values):
        return ""
    note = note or spread(values)
    low, high = span or (float(values.min()), float(values.max()))
    top = float(np.percentile(values, 99))
    above = span is None and high - low > 1.5 * (top - low) > 0
    if above:
        note = f"{note}, most {number(high)}"
        high, values = top, np.minimum(values, values.dtype.type(top))
    whole = np.issubdtype(values.dtype, np.integer)
    edges: np.ndarray
    if whole:  # as many integers in each range
        step = -(-(int(high) - int(low) + 1) // 40)
        edges = np.arange(int(low), int(high) + step + 1, step)
        last = (edges[1:] - 1).tolist()
    else:
        if high - low < 1e-6 * max(1.0, abs(high)):  # all the same
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, 41)
        last = edges[1:].tolist()
    counts, _ = np.histogram(values, edges)
    spans = [(number(a), number(b)) for a, b in zip(edges[:-1].tolist(), last, strict=True)]
    hints = [
        f"{a if a == b else f'{a} to {b}'}: {count:,}"
        for (a, b), count in zip(spans, counts.tolist(), strict=True)
    ]
    ends = (number(low), f"{number(high)} and more" if above else number(high))
    return bars(title, counts, ends, hints=hints, note=note)


def spread(values: np.ndarray) -> str:
    """Median and the range in which nine tenths of the values lie."""
    low, middle, high = np.percentile(values, [5, 50, 95]).tolist()
    return f"median {number(middle)}, nine tenths from {number(low)} to {number(high)}"


def number(value: float) -> str:
    """A number as people read it.

    >>> number(1234567.0), number(0.123456), number(12.0)
    ('1,234,567', '0.123', '12')
    """
    if abs(value) >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"
