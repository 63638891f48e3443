"""How Beam is to encode what travels between the steps: best not at all."""

from __future__ import annotations

import pickle
from typing import Any

from apache_beam.coders import Coder, registry

from transforms.elements import Element


class ElementCoder(Coder):
    """Elements stay in one worker and are not encoded there, save that Beam wants to know the size of some.

    By default it pickles them for that, with the window of thousands of documents that they belong to: a
    quarter of the chain's time.
    """

    def encode(self, value: Any) -> bytes:
        return pickle.dumps(value)

    def decode(self, encoded: bytes) -> Any:
        return pickle.loads(encoded)

    def estimate_size(self, value: Any) -> int:
        return 1

    def is_deterministic(self) -> bool:
        return False


registry.register_coder(Element, ElementCoder)
