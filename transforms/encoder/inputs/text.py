"""Models that take strings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from transforms.encoder.config import ModelConfig
from transforms.encoder.messages import model_error
from transforms.encoder.signature import described, tensors
from transforms.modality.text import Text
from transforms.texts import Refusal


class TextInput:
    """One string tensor [n]; see ModelInput."""

    modality = Text()
    sample = "embedbeam warms the model up with this sentence"
    prepares = False

    def __init__(self, tf: Any, loaded: Any, function: Any, signature: str, config: ModelConfig):
        """Checks what the function takes.

        Raises:
          UsageError: it is not one string tensor with a free first dimension.
        """
        self.described, self._function = string_input(tf, function, config.handle, signature)
        counting = dict(getattr(loaded, "signatures", None) or {}).get("count_tokens")
        self.can_count = counting is not None
        if counting is not None:
            _, self._counts = string_input(tf, counting, config.handle, "count_tokens")
        self.window = max_tokens(loaded)

    def estimate(self, payloads: Sequence[Any]) -> np.ndarray:
        return self.modality.estimate(payloads)

    def count(self, payloads: Sequence[Any]) -> np.ndarray:
        counts: np.ndarray = next(iter(self._counts(payloads).values())).numpy()
        return counts

    def prepare(self, payloads: Sequence[Any]) -> tuple[Sequence[Any], dict[int, Refusal]]:
        return payloads, {}

    def call(self, prepared: Sequence[Any]) -> tuple[Any, Any]:
        return self._function(prepared), None


def string_input(
    tf: Any, function: Any, handle: str, signature: str
) -> tuple[str, Callable[[Sequence[Any]], Any]]:
    """Checks that the function takes one string [n] and returns (what it takes, how to call it)."""
    specs, by_name = tensors(tf, function)
    takes = f"signature {signature} takes ({described(specs) or 'nothing'}), expected one string tensor [n]"
    if [spec.dtype for spec in specs.values()] != [tf.string]:
        raise model_error(
            handle, f"{takes}: choose a text model, another `signature`, or the `modality` that fits"
        )
    [(name, spec)] = specs.items()
    if spec.shape.rank is not None and spec.shape.as_list() not in ([None], [None, None], [None, 1]):
        raise model_error(handle, f"{takes} with a free first dimension")
    row = [1] if spec.shape.rank == 2 else []

    def call(texts: Sequence[Any]) -> Any:
        tensor = tf.constant(texts, dtype=tf.string, shape=[len(texts), *row])
        return function(**{name: tensor}) if by_name else function(tensor)

    return f"{name}: string [n]", call


def max_tokens(loaded: Any) -> int | None:
    """The window that the model states, in tokens."""
    value = getattr(loaded, "max_tokens", None)
    return None if value is None or callable(value) else int(value)
