"""Elements that a DoFn held back keep the timestamp and window they came with."""

from __future__ import annotations

from typing import Any

from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from transforms.blocks import ChunkBlock, DeadLetters, DocumentBlock, EmbeddedBatch, RowBlock, Run
from transforms.elements import DeadLetter, Embedding, Origin

_GLOBAL = GlobalWindow()


def origin_of(element: Any) -> Origin | None:
    """Where the first document behind an element came from; None in embedbeam's own job."""
    match element:
        case DocumentBlock(origins=origins) | RowBlock(origins=origins):
            return origins[0] if origins else None
        case ChunkBlock(documents=inner) | Run(window=inner):
            return origin_of(inner)
        case EmbeddedBatch(runs=(first, *_)) | DeadLetters(letters=(first, *_)):
            return origin_of(first)
        case DeadLetter(origin=origin) | Embedding(origin=origin):
            return origin
    return None


def at_origin(element: Any) -> WindowedValue:
    """The element as finish_bundle must yield it, in its own window."""
    origin = origin_of(element)
    if origin is None:
        return WindowedValue(element, MIN_TIMESTAMP, (_GLOBAL,))
    return WindowedValue(element, origin.timestamp, (origin.window,))
