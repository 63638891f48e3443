"""Models that take token ids, made by whoever made the documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from transforms.encoder.config import ModelConfig
from transforms.encoder.inputs.ids import IdsFunction
from transforms.encoder.inputs.rows import as_rows, padded
from transforms.encoder.inputs.text import max_tokens
from transforms.modality import Modality
from transforms.modality.tokens import Tokens
from transforms.texts import Refusal


class TokenInput:
    """Integers [n, positions], alone or with masks and their like; see ModelInput."""

    modality: Modality = Tokens()
    sample = np.array([1, 2, 3], np.int32)
    can_count, prepares = True, False

    def __init__(self, tf: Any, loaded: Any, function: Any, signature: str, config: ModelConfig):
        self._function = IdsFunction(tf, function, config.handle, signature)
        self.described = self._function.described
        windows = [max_tokens(loaded), self._function.width]
        self.window = min((n for n in windows if n is not None), default=None)

    def estimate(self, payloads: Sequence[Any]) -> np.ndarray:
        return self.modality.estimate(payloads)

    def count(self, payloads: Sequence[Any]) -> np.ndarray:
        return self.modality.estimate(payloads)

    def prepare(self, payloads: Sequence[Any]) -> tuple[Sequence[Any], dict[int, Refusal]]:
        # As text models do it: a longer list, of which the chain wants the window alone, is cut here.
        return padded([ids[: self.window] for ids in payloads], width=self._function.width), {}

    def call(self, prepared: Sequence[Any]) -> tuple[Any, Any]:
        return self._function(as_rows(prepared))
