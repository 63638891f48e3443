"""Which model."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which model, which part of it, and how payloads become its input.

    What is not told here is told beside the options of the same name (`PayloadOptions`).

    Attributes:
      handle: as the user gave it.
      signature: name of a signature; None picks serving_default, default, or the model's own call.
      output: name of the output where there are several.
      digest: expected digest; None checks nothing.
      modality: name of what the model's payloads are; None goes by the signature.
      pooling: of an output [n, positions, dim]: mean, cls, max or last.
      in_flight, intra_op: as in policy.Threads; None: as tuned for this machine, or by its cores. What more
        threads of an op do to a vector's last bits is the model's affair, so a job's plan records intra_op.
      image_size: side of the square that images become where the model leaves it open.
      image_range: what their pixels' numbers become: unit, tf, torch, caffe or raw; None goes by the model.
      image_resize: stretch, crop or pad.
      image_interpolation: nearest, bilinear, bicubic or lanczos.
      preprocessor: handle of the model that makes the encoder's input of strings.
      seq_length: most tokens of what the preprocessor makes; None leaves it to it.
      prompt: what comes before each text: the name of one of the model's prompts, or a text.
      dim: how many of a vector's numbers are kept, from the first; None keeps all.
      max_tokens: as in EmbedConfig, which sound's windows overlap within.
      folder: where the model lies on this machine, once that is known.
    """

    handle: str
    signature: str | None = None
    output: str | None = None
    digest: str | None = None
    modality: str | None = None
    pooling: str = "mean"
    in_flight: int | None = None
    intra_op: int | None = None
    sample_rate: int | None = None
    window_seconds: float | None = None
    overlap_seconds: float = 0.0
    audio_normalize: bool = False
    max_tokens: int | None = None
    column: tuple[str, ...] = ()
    nulls: str = "refuse"
    image_size: int | None = None
    image_range: str | None = None
    image_resize: str = "stretch"
    image_interpolation: str = "bilinear"
    preprocessor: str | None = None
    seq_length: int | None = None
    prompt: str | None = None
    dim: int | None = None
    folder: str | None = None
