"""A DoFn as a step of the chain, and how Beam is to encode what travels between steps: best not at all."""

from __future__ import annotations

import pickle
from typing import Any

import apache_beam as beam
from apache_beam.coders import Coder, registry

from transforms.elements import Element


def step(fn: beam.DoFn) -> beam.PTransform:
    """The DoFn under its own name; what it gives are Elements."""
    return type(fn).__name__ >> beam.ParDo(fn).with_output_types(Element)


class ElementCoder(Coder):
    """Elements stay in one worker and are not encoded there, save that Beam wants to know the size of some.

    By default it pickles them for that, with the window of thousands of documents that they belong to: a
    quarter of the chain's time.
    """

    encode, decode = staticmethod(pickle.dumps), staticmethod(pickle.loads)

    def estimate_size(self, value: Any) -> int:
        return 1


registry.register_coder(Element, ElementCoder)
