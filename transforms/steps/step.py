"""What travels between steps, as Beam has it: not encoded, and in the window of its document."""

from __future__ import annotations

import pickle
from typing import Any

from apache_beam.coders import Coder, registry
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from transforms.blocks import ChunkBlock, DeadLetters, DocumentBlock, EmbeddedBatch, RowBlock, Run
from transforms.elements import DeadLetter, Element, Embedding, Origin


class ElementCoder(Coder):
    """Elements stay in one worker and are not encoded there, save that Beam wants to know the size of some.

    By default it pickles them for that, with the window of thousands of documents that they belong to: a
    quarter of the chain's time.
    """

    encode, decode = staticmethod(pickle.dumps), staticmethod(pickle.loads)

    def estimate_size(self, value: Any) -> int:
        return 1


registry.register_coder(Element, ElementCoder)


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
    """The element as finish_bundle must yield it, in the window and at the time that its document had."""
    origin = origin_of(element)
    if origin is None:
        return WindowedValue(element, MIN_TIMESTAMP, (GlobalWindow(),))
    return WindowedValue(element, origin.timestamp, (origin.window,))
