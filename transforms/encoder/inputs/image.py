"""Models that take images: pixels of one size, or encoded images that they decode themselves."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from transforms.encoder.config import ModelConfig
from transforms.encoder.inputs.opening import Unfit, opened
from transforms.encoder.inputs.pixels import Shape
from transforms.encoder.inputs.text import string_input
from transforms.encoder.inputs.threads import side_by_side
from transforms.encoder.messages import model_error
from transforms.encoder.signature import described, tensors
from transforms.errors import UsageError
from transforms.extras import check_extra
from transforms.modality.image import Image, cost_of
from transforms.texts import Refusal

# Where neither the model nor the user says.
_SIDE = 224
# What pixels become, by Keras' names for it; `unit` is TF Hub's convention.
_RANGES = {
    "unit": "0 to 1",
    "tf": "-1 to 1",
    "torch": "0 to 1, less ImageNet's mean, by its deviation",
    "caffe": "0 to 255, blue first, less ImageNet's mean",
    "raw": "0 to 255",
}
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red
_TORCH_MEAN, _TORCH_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def image_input(tf: Any, loaded: Any, function: Any, signature: str, config: ModelConfig) -> Any:
    """How images become what a function takes: a ModelInput.

    Raises:
      UsageError: it takes none, or others than the user asks for; or Pillow is not there.
    """
    check_extra("image", "PIL", what="images", argument="model")
    specs, _ = tensors(tf, function)
    kind = _EncodedImages if [spec.dtype for spec in specs.values()] == [tf.string] else _Pixels
    return kind(tf, function, signature, config)


class _Images:
    """What both have in common."""

    window = None
    can_count = False
    prepares = True
    modality: Image

    def estimate(self, payloads: Sequence[Any]) -> np.ndarray:
        return self.modality.estimate(payloads)

    def count(self, payloads: Sequence[Any]) -> np.ndarray:
        raise NotImplementedError  # can_count says so

    def prepare(self, payloads: Sequence[Any]) -> tuple[Sequence[Any], dict[int, Refusal]]:
        made = side_by_side(self._one, payloads)
        return made, {i: one for i, one in enumerate(made) if isinstance(one, tuple)}

    def _one(self, payload: bytes) -> Any:
        try:
            return self._prepared(payload)
        except Unfit as e:
            return e.refusal

    def _prepared(self, payload: bytes) -> Any:
        raise NotImplementedError


class _EncodedImages(_Images):
    """Strings [n] that the model decodes; see ModelInput."""

    modality = Image()

    def __init__(self, tf: Any, function: Any, signature: str, config: ModelConfig):
        for name in ("image_size", "image_range"):
            if getattr(config, name) is not None:
                reason = "the model decodes images itself, and makes of them what it takes"
                raise UsageError(f"{name} {getattr(config, name)}: {reason}", argument=name)
        takes, self._function = string_input(tf, function, config.handle, signature)
        self.described = f"{takes}; encoded images"
        self.sample = _sample()

    def _prepared(self, payload: bytes) -> bytes:
        opened(payload)  # a model's decoder need not look at the size before it begins
        return payload

    def call(self, prepared: Sequence[Any]) -> tuple[Any, Any]:
        return self._function(list(prepared)), None


class _Pixels(_Images):
    """One tensor of three colours or grey, [n, height, width, 3] or [n, 3, height, width]; see ModelInput."""

    def __init__(self, tf: Any, function: Any, signature: str, config: ModelConfig):
        specs, by_name = tensors(tf, function)
        if len(specs) != 1 or not is_image(next(iter(specs.values()))):
            takes = f"signature {signature} takes ({described(specs) or 'nothing'})"
            expected = "expected one tensor of floats or uint8 [n, height, width, 3], or strings [n]"
            advice = "choose an image model, another `signature`, or the `modality` that fits"
            raise model_error(config.handle, f"{takes}, {expected}: {advice}")
        [(name, spec)] = specs.items()
        self._tf, self._function, self._name = tf, function, name if by_name else None
        self._dtype, self._last = spec.dtype, _channels_last(spec)
        _, *shape = spec.shape.as_list()
        height, width, channels = shape if self._last else (*shape[1:], shape[0])
        resize, interpolation = config.image_resize, config.image_interpolation
        height, width = _side(height, config), _side(width, config)
        self._shape = Shape(height, width, channels, resize, interpolation)
        self._range = config.image_range or ("unit" if spec.dtype.is_floating else "raw")
        self._check_range(config)
        self.modality = Image(cost_of(height, width))
        how = f"{height} x {width}, {resize}, {interpolation}"
        self.described = f"{described(specs)}; images {how}, {_RANGES[self._range]}"
        self.sample = _sample()

    def _check_range(self, config: ModelConfig) -> None:
        reason = ""
        if self._range != "raw" and not self._dtype.is_floating:
            reason = f"the model takes {self._dtype.name}, which holds raw pixels; leave it out"
        elif self._range in ("torch", "caffe") and self._shape.channels == 1:
            reason = "is for three colours, and the model takes grey; expected unit, tf or raw"
        if reason:
            raise UsageError(f"image_range {self._range}: {reason}", argument="image_range")

    def _prepared(self, payload: bytes) -> np.ndarray:
        return self._shape.pixels(payload)

    def call(self, prepared: Sequence[Any]) -> tuple[Any, Any]:
        # A byte a number as long as they wait, and on their way to a GPU.
        tensor = self._ranged(self._tf.constant(np.stack(prepared)))
        if not self._last:
            tensor = self._tf.transpose(tensor, [0, 3, 1, 2])
        tensor = self._tf.cast(tensor, self._dtype)
        return self._function(**{self._name: tensor}) if self._name else self._function(tensor), None

    def _ranged(self, pixels: Any) -> Any:
        if self._range == "raw":
            return pixels
        floats = self._tf.cast(pixels, self._tf.float32)
        if self._range == "tf":
            return floats / 127.5 - 1
        if self._range == "caffe":
            return floats[..., ::-1] - self._tf.constant(_CAFFE_MEAN)
        if self._range == "torch":
            return (floats / 255 - self._tf.constant(_TORCH_MEAN)) / self._tf.constant(_TORCH_DEVIATION)
        return floats / 255


def is_image(spec: Any) -> bool:
    """Whether a tensor is one of pixels: four dimensions, one of which is of three colours or of grey."""
    if spec.shape.rank != 4 or not (spec.dtype.is_floating or spec.dtype.name == "uint8"):
        return False
    count, first, _, last = spec.shape.as_list()
    return count is None and (last in (1, 3) or first in (1, 3))


def _channels_last(spec: Any) -> bool:
    return spec.shape.as_list()[3] in (1, 3)


def _side(side: int | None, config: ModelConfig) -> int:
    """Of the model, else of the user, else _SIDE."""
    if side is not None and config.image_size not in (None, side):
        reason = f"the model takes {side} pixels; leave it out"
        raise UsageError(f"image_size {config.image_size}: {reason}", argument="image_size")
    return side or config.image_size or _SIDE


def _sample() -> bytes:
    """An image with something on it; jpeg, which all models know that decode images themselves."""
    from PIL import Image

    ramp = np.linspace(0, 255, 64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    with io.BytesIO() as file:
        Image.fromarray(ramp).save(file, "JPEG", quality=95)
        return file.getvalue()
