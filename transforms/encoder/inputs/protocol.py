"""What differs between models of different modalities: what a signature takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from transforms.modality import Modality
from transforms.texts import Refusal


class ModelInput(Protocol):
    """How payloads become what a function of a loaded SavedModel takes. Thread-safe.

    Attributes:
      modality: what the payloads are.
      described: the function's input, for people: `name: dtype [shape]`.
      sample: a payload that every such model embeds.
      window: the most tokens at once; None if the model does not say.
      can_count: whether `count` works.
      prepares: as in Encoder.
    """

    modality: Modality
    described: str
    sample: Any
    window: int | None
    can_count: bool
    prepares: bool

    def estimate(self, payloads: Sequence[Any]) -> np.ndarray:
        """As in Encoder."""

    def count(self, payloads: Sequence[Any]) -> np.ndarray:
        """Tokens, [len(payloads)]."""

    def prepare(self, payloads: Sequence[Any]) -> tuple[Sequence[Any], dict[int, Refusal]]:
        """As in Encoder."""

    def call(self, prepared: Sequence[Any]) -> tuple[Any, Any]:
        """The function's outputs, rows in the order of what was prepared, and a mask.

        The mask is [n, positions], not 0 where a position of an output [n, positions, dim] is of the row;
        None where all are.
        """
