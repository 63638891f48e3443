"""A mini-batch that fails: halved where memory ran out, bisected where a document is to blame."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import numpy as np

from transforms.encoder.hub import Encoder, first_line
from transforms.errors import ModelError

_LOG = logging.getLogger(__name__)
# So many documents that fail alike are the model's fault, whatever it did before.
_ALL_FAILED = 8


class RobustEncoder:
    """Embeds mini-batches, isolates what cannot be embedded, and remembers what fits into memory.

    One instance serves a process; its methods may be called from several threads.
    """

    def __init__(self, encoder: Encoder):
        self.encoder = encoder
        self._lock = threading.Lock()
        self._fits: int | None = None  # the largest cost that is still tried; None: no limit met yet
        self._good: str | None = None  # a text that has been embedded
        self._failed = 0  # documents that failed while none was ever embedded

    def embed(self, texts: Sequence[str], costs: Sequence[int]) -> tuple[np.ndarray, dict[int, str]]:
        """Embeds a mini-batch.

        Args:
          texts: n texts.
          costs: tokens of each, as the token budget counts them.

        Returns:
          vectors float32 [n, dim], and the reason of each failed row by its number; its vector is zero.

        Raises:
          ModelError: every text failed alike, or the model gives the wrong shape.
        """
        vectors = np.zeros((len(texts), self.encoder.dim), np.float32)
        failures: dict[int, str] = {}
        parts = self._fitting(costs)[::-1]
        while parts:
            first, last = parts.pop()
            result = self._try(texts[first:last], sum(costs[first:last]))
            if not isinstance(result, str):
                vectors[first:last] = result
            elif last - first == 1:
                failures[first] = result
            else:
                middle = (first + last) // 2
                parts += [(middle, last), (first, middle)]
        if failures:
            self._blame(texts, failures)
        if len(failures) < len(texts):
            self._good = next(text for i, text in enumerate(texts) if i not in failures)
        return vectors, failures

    def _fitting(self, costs: Sequence[int]) -> list[tuple[int, int]]:
        """Cuts [0, n) so that no part costs more than what is known to fit."""
        limit = self._fits
        if limit is None or sum(costs) <= limit:
            return [(0, len(costs))]
        parts, first, total = [], 0, 0
        for i, cost in enumerate(costs):
            if i > first and total + cost > limit:
                parts.append((first, i))
                first, total = i, 0
            total += cost
        return [*parts, (first, len(costs))]

    def _try(self, texts: Sequence[str], cost: int) -> np.ndarray | str:
        """Returns the vectors, or why there are none."""
        try:
            vectors = self.encoder.embed(texts)
        except ModelError:
            raise
        except Exception as e:  # whatever it is, it is the text's fault until proven otherwise
            if not _out_of_memory(e):
                return f"the model refuses it: {type(e).__name__}: {first_line(e)}"
            if len(texts) > 1:
                self._remember(cost)
            return "out of memory: the model cannot embed it even alone"
        return vectors if np.isfinite(vectors).all() else "the model gives NaN or infinity"

    def _remember(self, cost: int) -> None:
        fits = max(1, cost // 2)
        with self._lock:
            if self._fits is None or fits < self._fits:
                self._fits = fits
                _LOG.warning(
                    "out of memory at %d tokens: mini-batches are cut at %d from here on", cost, fits
                )

    def _blame(self, texts: Sequence[str], failures: dict[int, str]) -> None:
        """Raises ModelError if it is the model, not its documents, that fails.

        Every row failed alike, and: there were many, or nothing was ever embedded, or a text that was
        embedded before (the sample, if none) now fails too. For a lone document only that last test counts,
        until as many such have failed, one after the other.
        """
        kinds = {reason.partition(": ")[2].partition(":")[0] or reason for reason in failures.values()}
        if len(failures) < len(texts) or len(kinds) > 1:
            return
        if self._good is None:
            with self._lock:
                self._failed += len(texts)
        if len(texts) >= _ALL_FAILED or (
            self._good is None and (len(texts) > 1 or self._failed >= _ALL_FAILED)
        ):
            healthy = False
        else:
            healthy = self._embeds(self._good or self.encoder.sample)
        if not healthy:
            count = "the document" if len(texts) == 1 else f"all {len(texts)} documents"
            raise ModelError(f"the model fails on {count} of a mini-batch alike: {failures[0]}")

    def _embeds(self, text: str) -> bool:
        try:
            return bool(np.isfinite(self.encoder.embed([text])).all())
        except Exception:  # the question is only whether it works
            return False


def _out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; cuBLAS and cuDNN say so under the name of other errors."""
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return True
    return type(error).__name__ == "InternalError" and "ALLOC_FAILED" in str(error)
