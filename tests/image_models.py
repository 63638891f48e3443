"""Real image models with seeded weights, saved as Keras and as TF Hub save them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pictures
import tensorflow as tf
from keras.applications.imagenet_utils import preprocess_input

# What pixels become for the networks here, as Keras' own preprocessing has it.
MODES = {"MobileNetV2": "tf", "ResNet50": "caffe", "InceptionV3": "tf"}


def application(name: str = "MobileNetV2", side: int | None = 96, **options: Any) -> tf.keras.Model:
    """A network of tf.keras.applications without its classes, its weights drawn anew but alike each time.

    Fresh weights make of all images nearly the same vector, or of an image and its rounded pixels two that
    are far apart. As in a network that has seen images, here kernels are smooth, and what batches are
    normalised with is that of a few images.
    """
    tf.keras.utils.set_random_seed(1)
    make = getattr(tf.keras.applications, name)
    model = make(weights=None, include_top=False, pooling="avg", input_shape=(side, side, 3), **options)
    rng = np.random.default_rng(5)
    for one in model.layers:
        for weight in one.weights:
            if weight.name == "kernel" and weight.shape[0] * weight.shape[1] > 1:
                kernel = weight.numpy()
                window = rng.uniform(0.5, 1.5, (*kernel.shape[:2], 1, 1))
                weight.assign(window * kernel.sum((0, 1), keepdims=True))
    norms = [one for one in model.layers if isinstance(one, tf.keras.layers.BatchNormalization)]
    kept = [one.momentum for one in norms]
    for one in norms:
        one.momentum = 0.0
    side = side or 96
    images = np.stack([pictures.photo(100 + i, side, side) for i in range(8)]).astype(np.float32)
    model(preprocess_input(images, mode=MODES[name]), training=True)
    for one, momentum in zip(norms, kept, strict=True):
        one.momentum = momentum
        variance = one.moving_variance.numpy()
        one.moving_variance.assign(variance + variance.mean())  # what hardly varies is not made much of
    return model


def save_small(folder: Path | str, shape: tuple[int | None, ...] = (8, 8, 3), dtype: Any = tf.float32) -> str:
    """A model of few pixels, saved in no time: all of them times one drawn matrix, so that each counts.

    Args:
      shape: of an image; None where it is free, which becomes 8.
    """
    weights = np.random.default_rng(3).normal(size=(192, 16)).astype(np.float32)

    class Small(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, *shape], dtype, name="image")])
        def serve(self, image: Any) -> dict[str, Any]:
            flat = tf.reshape(tf.cast(image, tf.float32), [tf.shape(image)[0], -1])
            return {"vector": flat @ tf.constant(weights)[: tf.shape(flat)[1]]}

    module = Small()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return str(folder)


def save_keras(model: tf.keras.Model, folder: Path | str) -> str:
    """As `model.export` saves it: signatures serving_default and serve."""
    model.export(str(folder), verbose=False)
    return str(folder)


def save_hub(model: tf.keras.Model, folder: Path | str, *, signature: bool = False) -> str:
    """In the format of TF Hub's image feature vectors: callable, with an argument for training.

    Args:
      signature: whether there is one, called default.
    """

    class FeatureVector(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.variables_ = model.variables
            self.regularization_losses: list[Any] = []

        @tf.function
        def __call__(self, inputs: Any, training: bool = False, batch_norm_momentum: Any = None) -> Any:
            return self.model(inputs, training=training)

    module = FeatureVector()
    spec = tf.TensorSpec([None, None, None, 3] if model.input_shape[1] is None else model.input_shape)
    for training in (True, False):
        module.__call__.get_concrete_function(spec, training=training)

    @tf.function(input_signature=[spec])
    def default(inputs: Any) -> dict[str, Any]:
        return {"default": model(inputs, training=False)}

    tf.saved_model.save(module, str(folder), signatures={"default": default} if signature else {})
    return str(folder)
