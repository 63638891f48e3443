"""Real image models with seeded weights, saved as Keras and as TF Hub save them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf


def application(name: str = "MobileNetV2", side: int | None = 96, **options: Any) -> tf.keras.Model:
    """A network of tf.keras.applications without its classes, its weights drawn anew but alike each time.

    Keras' own initial weights make of all images nearly the same vector: here the statistics that batches are
    normalised with are drawn, too.
    """
    tf.keras.utils.set_random_seed(1)
    make = getattr(tf.keras.applications, name)
    model = make(weights=None, include_top=False, pooling="avg", input_shape=(side, side, 3), **options)
    rng = np.random.default_rng(7)
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.set_weights([_drawn(rng, weight) for weight in layer.weights])
    return model


def _drawn(rng: np.random.Generator, weight: Any) -> np.ndarray:
    low, high = {"gamma": (0.8, 1.2), "beta": (-0.3, 0.3), "moving_mean": (-0.2, 0.2)}.get(
        weight.name, (0.5, 1.5)
    )
    return rng.uniform(low, high, weight.shape).astype(np.float32)


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
