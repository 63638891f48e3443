"""Trains a head on the vectors of an output, in mini-batches that stream from it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pipeline.training.curves import Curves
from pipeline.training.epochs import MiniBatches
from pipeline.training.head import keras_head
from pipeline.training.labels import Labels
from pipeline.training.sources import OutputSource
from transforms.errors import UsageError
from transforms.output.reader import Output

PATIENCE = 3
LABEL = "label"
_WINDOW_ROWS = 16_384
_SAMPLE_ROWS = 20_000
_PROBABILITIES = 2**22  # most of them in memory at a time
# Of Keras' Adam, and of SGD with momentum 0.9 on standardised vectors.
RATES = {"adam": 1e-3, "sgd": 1e-2}
MOMENTUM = 0.9


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a head is trained.

    Attributes:
      kind: linear or mlp.
      optimizer: sgd (with momentum) or adam.
      weighted: count each row by the inverse frequency of its class.
      balanced: as many rows of each class in each mini-batch.
    """

    kind: str = "linear"
    optimizer: str = "adam"
    learning_rate: float | None = None
    epochs: int = 20
    batch_size: int = 256
    seed: int = 0
    weighted: bool = False
    balanced: bool = False


@dataclasses.dataclass
class Trained:
    """A head and how it came to be.

    Attributes:
      model: Keras' model with the weights of the best epoch.
      best: that epoch, counted from 1.
      truth, found: int [validation rows], the class of each and what the head says.
    """

    model: Any
    best: int
    truth: np.ndarray
    found: np.ndarray
    seconds: float


def train_head(
    output: Output, labels: Labels, recipe: Recipe, curves: Curves, tell: Callable[[str], object]
) -> Trained:
    """Trains until the validation loss has not fallen for PATIENCE epochs, or for as many as are wanted.

    Memory does not grow with the rows, but for five bytes each.

    Raises:
      UsageError: vectors hold NaN or infinity, or the loss is no number.
    """
    import tensorflow as tf

    tf.keras.utils.set_random_seed(recipe.seed)
    started = time.monotonic()
    training = _mini_batches(output, labels, recipe, validation=False)
    validation = _mini_batches(output, labels, recipe, validation=True)
    tell("measuring vectors")
    mean, variance = _moments(training, recipe)
    model = keras_head(recipe.kind, mean=mean, variance=variance, classes=len(labels.classes))
    step = _step(tf, model, recipe, labels)
    look = tf.function(lambda vectors: model(vectors, training=False), reduce_retracing=True)
    best, least, weights = 0, np.inf, model.get_weights()
    for epoch in range(1, recipe.epochs + 1):
        for number, batch in enumerate(training.epoch(epoch), start=1):
            loss, right = step(batch["embedding"], batch[LABEL])
            curves.mini_batch(float(loss), float(right))
            tell(f"epoch {epoch}: mini-batch {number:,} of {training.count:,}, loss {float(loss):.4f}")
        tell(f"epoch {epoch}: validation")
        loss, truth, found = _validate(look, validation)
        curves.epoch(loss, float((truth == found).mean()))
        if not np.isfinite(loss):
            _check_all_finite(output, labels, recipe)
            raise UsageError(f"the loss is {loss} after epoch {epoch}: give a smaller `learning_rate`")
        if loss < least:
            best, least, weights = epoch, loss, model.get_weights()
        elif epoch - best >= PATIENCE:
            break
    model.set_weights(weights)
    _, truth, found = _validate(look, validation)
    return Trained(model, best, truth, found, time.monotonic() - started)


def _mini_batches(output: Output, labels: Labels, recipe: Recipe, *, validation: bool) -> MiniBatches:
    chosen = (labels.validation == validation) & (labels.codes >= 0)
    source = OutputSource(output, ["embedding", LABEL], chosen=chosen, more={LABEL: labels.codes})
    if validation:
        return MiniBatches(source, batch_size=rows_at_once(len(labels.classes)))
    balance = LABEL if recipe.balanced else None
    return MiniBatches(
        source, batch_size=recipe.batch_size, shuffle=_WINDOW_ROWS, seed=recipe.seed, balance=balance
    )


def _moments(training: MiniBatches, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each number of the vectors, of some of them; float32 [dim] each.

    Raises:
      UsageError: some of them hold NaN or infinity.
    """
    some, rows = [], 0
    for batch in training.epoch(0):
        some.append(batch["embedding"])
        rows += len(some[-1])
        if rows >= _SAMPLE_ROWS:
            break
    vectors = np.concatenate(some)
    _refuse(_not_finite(vectors), len(vectors), "sampled vectors")
    variance = vectors.var(axis=0)
    # A number that is the same in all vectors tells nothing, and is not to be made much of.
    return vectors.mean(axis=0), np.where(variance > 0, variance, 1).astype(np.float32)


def _check_all_finite(output: Output, labels: Labels, recipe: Recipe) -> None:
    """Raises UsageError where any vector, of training or validation, holds NaN or infinity."""
    bad = rows = 0
    each_once = dataclasses.replace(recipe, balanced=False)
    for validation in (False, True):
        for batch in _mini_batches(output, labels, each_once, validation=validation).epoch(0):
            bad += _not_finite(batch["embedding"])
            rows += len(batch["embedding"])
    _refuse(bad, rows, "vectors")


def _not_finite(vectors: np.ndarray) -> int:
    return int((~np.isfinite(vectors).all(axis=1)).sum())


def _refuse(bad: int, rows: int, what: str) -> None:
    if bad:
        raise UsageError(
            f"{bad:,} of {rows:,} {what} hold NaN or infinity: nothing can be learnt from them; embed their "
            "documents anew, or leave their label empty"
        )


def _step(tf: Any, model: Any, recipe: Recipe, labels: Labels) -> Callable[..., Any]:
    rate = recipe.learning_rate or RATES[recipe.optimizer]
    optimizers = tf.keras.optimizers
    adam = recipe.optimizer == "adam"
    optimizer = optimizers.Adam(rate) if adam else optimizers.SGD(rate, momentum=MOMENTUM)
    optimizer.build(model.trainable_variables)
    counts = labels.counts(validation=False)
    weights = (
        counts.sum() / (len(counts) * np.maximum(counts, 1)) if recipe.weighted else np.ones(len(counts))
    )
    of_class = tf.constant(weights, tf.float32)

    @tf.function(reduce_retracing=True)
    def step(vectors: Any, classes: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = model(vectors, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=classes, logits=logits)
            loss = tf.reduce_mean(losses * tf.gather(of_class, classes))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        right = tf.argmax(logits, axis=-1, output_type=classes.dtype) == classes
        return loss, tf.reduce_mean(tf.cast(right, tf.float32))

    return step


def _validate(look: Callable[..., Any], validation: MiniBatches) -> tuple[float, np.ndarray, np.ndarray]:
    """Mean cross entropy, the rows' classes, and what the head says they are."""
    total, truth, found = 0.0, [], []
    for batch in validation.epoch(0):
        logits, classes = look(batch["embedding"]).numpy().astype(np.float64), batch[LABEL]
        logits -= logits.max(axis=1, keepdims=True)
        own = logits[np.arange(len(classes)), classes]
        total += float((np.log(np.exp(logits).sum(axis=1)) - own).sum())
        truth.append(classes)
        found.append(logits.argmax(axis=1))
    classes = np.concatenate(truth)
    return total / len(classes), classes, np.concatenate(found)


def rows_at_once(classes: int) -> int:
    """Of how many rows probabilities are told at a time."""
    return min(max(_PROBABILITIES // classes, 64), 8192)


def predictions(model: Any, output: Output, classes: int) -> Iterator[tuple[Any, np.ndarray]]:
    """Blocks of an output's rows without their vectors, and the probabilities, float32 [rows, classes].

    They are NaN where a vector holds NaN or infinity.

    Args:
      model: a head's signature.
      classes: how many it tells.
    """
    import tensorflow as tf

    more = [name for name in ("doc_id", "chunk", "start", "end") if name in output.arrow.names]
    for block in output.rows([*more, *output.vector_columns], block_rows=rows_at_once(classes)):
        vectors = output.matrix(block)
        found = model(embedding=tf.constant(vectors))["probabilities"].numpy()
        yield block.select(more), np.where(np.isfinite(vectors).all(axis=1)[:, np.newaxis], found, np.nan)
