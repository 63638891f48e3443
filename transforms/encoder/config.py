"""Which model."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which model, and which part of it.

    Attributes:
      handle: as the user gave it.
      signature: name of a signature; None picks serving_default, default, or the model's own call.
      output: name of the output where there are several.
      digest: expected digest; None checks nothing.
      modality: what the model's payloads are.
    """

    handle: str
    signature: str | None = None
    output: str | None = None
    digest: str | None = None
    modality: str = "text"
