"""Which model."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which model, which part of it, and how payloads become its input.

    Attributes:
      handle: as the user gave it.
      signature: name of a signature; None picks serving_default, default, or the model's own call.
      output: name of the output where there are several.
      digest: expected digest; None checks nothing.
      modality: name of what the model's payloads are; None goes by the signature.
      pooling: of an output [n, positions, dim]: mean, cls, max or last.
      preprocessor: handle of the model that makes the encoder's input of strings.
      seq_length: most tokens of what the preprocessor makes; None leaves it to it.
      prompt: what comes before each text: the name of one of the model's prompts, or a text.
      dim: how many of a vector's numbers are kept, from the first; None keeps all.
      folder: where the model lies on this machine, once that is known.
    """

    handle: str
    signature: str | None = None
    output: str | None = None
    digest: str | None = None
    modality: str | None = None
    pooling: str = "mean"
    preprocessor: str | None = None
    seq_length: int | None = None
    prompt: str | None = None
    dim: int | None = None
    folder: str | None = None
