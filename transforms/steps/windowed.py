"""Elements that a DoFn held back keep the timestamp and window they came with."""

from __future__ import annotations

from typing import Any

from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

_GLOBAL = GlobalWindow()


def origin_of(element: Any) -> tuple[Any, Any] | None:
    """(timestamp, window) of the document behind an element; None in embedbeam's own job."""
    document = getattr(element, "document", element)
    return getattr(document, "origin", None)


def at_origin(element: Any, source: Any = None) -> WindowedValue:
    """The element as finish_bundle must yield it, in the window of `source` (of itself, if not given)."""
    origin = origin_of(element if source is None else source)
    timestamp, window = origin or (MIN_TIMESTAMP, _GLOBAL)
    return WindowedValue(element, timestamp, (window,))
