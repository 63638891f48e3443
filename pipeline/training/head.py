"""A head: classes from vectors, as a SavedModel of its own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from transforms.errors import UsageError
from transforms.output.reader import Output

CARD = "assets.extra/embedbeam-head.json"
# Of `embed`, each of which makes other vectors with the same model.
_CHOICES = (
    "modality",
    "signature",
    "model_output",
    "pooling",
    "prompt",
    "vector_dtype",
    "payload",
)
HIDDEN, DROPOUT = 256, 0.2


@dataclasses.dataclass(frozen=True)
class Card:
    """What a head was trained on, which lies beside it.

    Attributes:
      labels: the classes, in the order of the probabilities.
      field: the labels' name.
      dim: length of a vector.
      model: handle of the encoder.
      model_digest: its digest; vectors of another encoder mean something else.
      kind: linear or mlp.
      choices: the job's that say what vectors the encoder makes, by their names.
    """

    labels: tuple[Any, ...]
    field: str
    dim: int
    model: str
    model_digest: str
    kind: str
    choices: dict[str, Any]


def choices_of(output: Output) -> dict[str, Any]:
    """How vectors were made of documents by one encoder, by the names of the job's choices."""
    return {name: output.job.get(name) for name in _CHOICES}


def keras_head(kind: str, *, mean: np.ndarray, variance: np.ndarray, classes: int) -> Any:
    """A Keras model, float32 [n, dim] -> logits [n, classes].

    Vectors are standardised first: the numbers of a unit vector are small, and a step of the optimizer that
    suits them would suit no other model.

    Args:
      kind: linear, or mlp: one hidden layer of 256 ReLU with dropout.
      mean, variance: [dim], of the vectors for training.
    """
    import tensorflow as tf

    layers = [tf.keras.Input([len(mean)]), tf.keras.layers.Normalization(mean=mean, variance=variance)]
    if kind == "mlp":
        layers += [tf.keras.layers.Dense(HIDDEN, activation="relu"), tf.keras.layers.Dropout(DROPOUT)]
    return tf.keras.Sequential([*layers, tf.keras.layers.Dense(classes)])


def save_head(model: Any, card: Card, folder: Path) -> None:
    """Writes a SavedModel: float32 [n, dim] -> probabilities float32 [n, classes], label string [n]."""
    import tensorflow as tf

    class Head(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.labels = tf.constant([str(one) for one in card.labels])

        @tf.function(input_signature=[tf.TensorSpec([None, card.dim], tf.float32, name="embedding")])
        def classify(self, embedding: Any) -> dict[str, Any]:
            probabilities = tf.nn.softmax(self.model(embedding, training=False))
            return {
                "probabilities": probabilities,
                "label": tf.gather(self.labels, tf.argmax(probabilities, axis=-1)),
            }

    head = Head()
    tf.saved_model.save(head, str(folder), signatures={"serving_default": head.classify})
    path = folder / CARD
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        json.dumps(dataclasses.asdict(card), ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )


def read_card(folder: str | Path) -> Card:
    """The card of a head.

    Raises:
      UsageError: there is none that could be read.
    """
    try:
        fields = json.loads((Path(folder) / CARD).read_bytes())
        return Card(**fields | {"labels": tuple(fields["labels"])})
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise UsageError(f"{folder}: no head here: expected a folder that `embedbeam train` wrote") from e


def check_vectors(card: Card, output: Output) -> None:
    """Raises UsageError where an output's vectors are not those that the head was trained on."""
    digest, path = output.job.get("model_digest"), output.folder.path
    if digest != card.model_digest:
        raise UsageError(
            f"{path}: vectors of {output.job.get('model')} (digest {str(digest)[:12]}), and the head was "
            f"trained on those of {card.model} (digest {card.model_digest[:12]}); expected the same model"
        )
    if output.dim != card.dim:
        raise UsageError(f"{path}: vectors of {output.dim} numbers, and the head takes {card.dim}")
    for name, own in choices_of(output).items():
        if own != card.choices.get(name):
            raise UsageError(
                f"{path}: vectors with {name} {own!r}, and the head was trained on those with "
                f"{card.choices.get(name)!r}; expected vectors that were made alike"
            )
