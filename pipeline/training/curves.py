"""Learning curves: a point a mini-batch and one an epoch, for TensorBoard and as a picture."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np


class Curves:
    """What was seen while training.

    Attributes:
      losses, accuracies: of each mini-batch, before its step.
      validation: (mini-batches so far, loss, accuracy) after each epoch.
    """

    def __init__(self, folder: Path):
        """Takes the folder of the event files."""
        import tensorflow as tf
        from tensorflow.core.framework.summary_pb2 import Summary

        self._tf, self._summary = tf, Summary
        self._training, self._validation = (
            tf.summary.create_file_writer(str(folder / name)) for name in ("training", "validation")
        )
        self.losses: list[float] = []
        self.accuracies: list[float] = []
        self.validation: list[tuple[int, float, float]] = []
        self.begun = time.monotonic()
        self._first = 0

    def mini_batch(self, loss: float, accuracy: float) -> None:
        self.losses.append(loss)
        self.accuracies.append(accuracy)
        step = len(self.losses)
        self._write(self._training, step, {"mini_batch/loss": loss, "mini_batch/accuracy": accuracy})

    def epoch(self, loss: float, accuracy: float) -> None:
        """Ends an epoch with what validation says."""
        number = len(self.validation) + 1
        mine = slice(self._first, None)
        means = float(np.mean(self.losses[mine])), float(np.mean(self.accuracies[mine]))
        self._first = len(self.losses)
        self.validation.append((len(self.losses), loss, accuracy))
        self._write(self._training, number, dict(zip(("epoch/loss", "epoch/accuracy"), means, strict=True)))
        self._write(self._validation, number, {"epoch/loss": loss, "epoch/accuracy": accuracy})

    def close(self) -> None:
        self._training.close()
        self._validation.close()

    def _write(self, writer: Any, step: int, values: dict[str, float]) -> None:
        # tf.summary.scalar would need TensorBoard's package.
        found = self._summary(value=[self._summary.Value(tag=k, simple_value=v) for k, v in values.items()])
        with writer.as_default():
            self._tf.summary.experimental.write_raw_pb(found.SerializeToString(), step)

    def draw(self, path: Path, *, best: int) -> None:
        """Writes the picture; mini-batches pale and, smoothed, dark, and validation as points."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 7), layout="constrained")
        upper, lower = figure.subplots(2, sharex=True)
        ends = [end for end, _, _ in self.validation]
        for axes, values, place, name in (
            (upper, self.losses, 1, "loss"),
            (lower, self.accuracies, 2, "accuracy"),
        ):
            steps = np.arange(1, len(values) + 1)
            axes.plot(steps, values, color="C0", alpha=0.25, linewidth=0.8, label="mini-batch")
            width = max(1, len(values) // 50)
            if width > 1:
                smooth = np.convolve(values, np.ones(width) / width, mode="valid")
                axes.plot(steps[width - 1 :], smooth, color="C0", label=f"mean of {width:,} mini-batches")
            axes.plot(ends, [one[place] for one in self.validation], "o-", color="C1", label="validation")
            axes.axvline(ends[best - 1], color="0.6", linestyle="--", zorder=0, label=f"best epoch, {best}")
            axes.set_ylabel(name)
            axes.grid(alpha=0.3)
        upper.set_yscale("log")
        lower.set_ylim(0, 1.02)
        lower.set_xlabel("mini-batches")
        lower.legend(loc="lower right")
        figure.savefig(path, dpi=120)
