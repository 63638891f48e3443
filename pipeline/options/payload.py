"""What a user may say of the model's input, kind by kind."""

from __future__ import annotations

from typing import ClassVar

from pipeline.options.fields import Group, Texts, group, option


@group
class PayloadOptions(Group):
    """How payloads become the model's input. ModelConfig has fields of the same names."""

    title: ClassVar[str] = "payload"
    pooling: str = option(
        "of the vectors of a document's positions, where the model gives these",
        default="mean",
        choices=("mean", "cls", "max", "last"),
    )
    sample_rate: int | None = option(
        "samples a second that the model takes of audio",
        default=None,
        metavar="HZ",
        least=1,
        unset="the model's attribute sample_rate, or 16000",
        chosen=True,
    )
    window_seconds: float | None = option(
        "seconds of audio that the model takes at once",
        default=None,
        least=0.01,
        unset="what the model's signature states, or 30",
        chosen=True,
    )
    overlap_seconds: float = option("seconds that a window repeats of the one before", default=0.0, least=0)
    audio_normalize: bool = option(
        "scale each window to zero mean and unit variance, as wav2vec2 wants it", default=False
    )
    column: Texts = option(
        "column of a table and the model's feature that it is; may be given several times",
        default=(),
        metavar="NAME=FEATURE",
        unset="the features' names",
    )
    nulls: str = option(
        "what a table's missing values are: refuse makes a dead letter of the row, zero (or empty), or nan "
        "where the feature is of floats",
        default="refuse",
        choices=("refuse", "zero", "nan"),
    )
    image_size: int | None = option(
        "side of the square that images become where the model leaves their size open",
        default=None,
        metavar="PIXELS",
        least=1,
        unset="the model's, or 224",
    )
    image_range: str | None = option(
        "what pixels become: 0 to 1, as Keras' tf, torch or caffe, or 0 to 255",
        default=None,
        choices=("unit", "tf", "torch", "caffe", "raw"),
        unset="unit; raw for uint8",
    )
    image_resize: str = option(
        "how images get the model's size", default="stretch", choices=("stretch", "crop", "pad")
    )
    image_interpolation: str = option(
        "how images are resized", default="bilinear", choices=("nearest", "bilinear", "bicubic", "lanczos")
    )
    preprocessor: str | None = option(
        "TF Hub handle of the model that makes the encoder's input of texts",
        default=None,
        metavar="HANDLE",
        compared=False,  # its digest is, with the model's
    )
    seq_length: int | None = option(
        "most tokens of what the preprocessor makes", default=None, least=3, unset="its own"
    )
    prompt: str | None = option(
        "what comes before each text: a name among the model's prompts, or a text",
        default=None,
        metavar="NAME|TEXT",
        unset="the model's own, if it has one",
    )
