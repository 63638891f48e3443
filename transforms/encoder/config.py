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
      image_size: side of the square that images become where the model leaves it open.
      image_range: what their pixels' numbers become: unit, tf, torch, caffe or raw; None goes by the model.
      image_resize: stretch, crop or pad.
      image_interpolation: nearest, bilinear, bicubic or lanczos.
    """

    handle: str
    signature: str | None = None
    output: str | None = None
    digest: str | None = None
    modality: str | None = None
    pooling: str = "mean"
    sample_rate: int | None = None
    window_seconds: float | None = None
    overlap_seconds: float = 0.0
    audio_normalize: bool = False
    column: tuple[str, ...] = ()
    nulls: str = "refuse"
    image_size: int | None = None
    image_range: str | None = None
    image_resize: str = "stretch"
    image_interpolation: str = "bilinear"
