"""A mini-batch that fails: halved where memory ran out, bisected where a document is to blame."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from transforms.encoder.messages import first_line
from transforms.encoder.protocol import Encoder
from transforms.errors import ModelError
from transforms.observer import ModelClock
from transforms.texts import Refusal

_LOG = logging.getLogger(__name__)
# What `prepare` made of payloads, and why some of them cannot be embedded.
Prepared = tuple[Sequence[Any], dict[int, Refusal]]
_ALONE = ("out of memory", "the model cannot embed it even alone")
_NAN = ("the model gives NaN or infinity", "")


class RobustEncoder:
    """Embeds mini-batches, isolates what cannot be embedded, and remembers what fits into memory.

    One instance serves a process; its methods may be called from several threads.
    """

    def __init__(self, encoder: Encoder):
        self.encoder = encoder
        self.clock = ModelClock()
        self._lock = threading.Lock()
        self._fits = math.inf  # the largest cost that is still tried
        self._good: Any = None  # what has been embedded

    @property
    def ran_out(self) -> bool:
        """Whether memory ran out for a mini-batch."""
        return self._fits < math.inf

    def prepare(self, payloads: Sequence[Any]) -> Prepared:
        """Payloads as the model takes them; may run on other threads than the model."""
        try:
            return self.encoder.prepare(payloads)
        except Exception as e:  # one of them; each alone tells which
            if len(payloads) == 1:
                return [None], {
                    0: ("cannot be prepared for the model", f"{type(e).__name__}: {first_line(e)}")
                }
        made: list[Any] = []
        refused: dict[int, Refusal] = {}
        for number, payload in enumerate(payloads):
            one, why = self.prepare([payload])
            made += [None] if why else one
            refused |= dict.fromkeys([number], why[0]) if why else {}
        return made, refused

    def embed(self, prepared: Prepared, costs: Sequence[int]) -> tuple[np.ndarray, dict[int, Refusal], int]:
        """Embeds a mini-batch.

        Args:
          prepared: of n payloads.
          costs: of each, as the token budget counts them.

        Returns:
          vectors float32 [n, dim]; kind and detail of each failed row by its number, whose vector is zero;
          and how often the model was called.

        Raises:
          ModelError: every row failed, and so does one that was embedded before; or the model gives the wrong
            shape.
        """
        everything, refused = prepared
        numbers = [i for i in range(len(costs)) if i not in refused] if refused else range(len(costs))
        payloads = [everything[i] for i in numbers] if refused else everything
        vectors, failures, calls = self._embed(payloads, [costs[i] for i in numbers] if refused else costs)
        if refused:
            found, vectors = vectors, np.zeros((len(costs), self.encoder.dim), np.float32)
            vectors[numbers] = found
            failures = refused | {numbers[row]: why for row, why in failures.items()}
        return vectors, failures, calls

    def _embed(
        self, payloads: Sequence[Any], costs: Sequence[int]
    ) -> tuple[np.ndarray, dict[int, Refusal], int]:
        vectors = np.zeros((len(payloads), self.encoder.dim), np.float32)
        failures: dict[int, Refusal] = {}
        parts, calls = [(0, len(payloads))] if len(payloads) else [], 0
        while parts:
            first, last = parts.pop()
            totals = np.cumsum(costs[first:last])
            fitting = first + max(1, int(np.searchsorted(totals, self._fits, side="right")))
            if fitting < last:  # no try in vain: some allocators wait seconds before they give up
                parts += [(fitting, last), (first, fitting)]
                continue
            result = self._try(payloads[first:last], int(totals[-1]))
            calls += 1
            if not isinstance(result, tuple):
                vectors[first:last] = result
            elif last - first == 1:
                failures[first] = result
            else:
                middle = (first + last) // 2
                parts += [(middle, last), (first, middle)]
        if len(failures) < len(payloads):
            self._good = next(payload for i, payload in enumerate(payloads) if i not in failures)
        elif failures and not self._embeds_what_it_did():
            count = "the document" if len(payloads) == 1 else f"all {len(payloads)} documents"
            why = ": ".join(filter(None, failures[0]))
            raise ModelError(
                f"the model fails on {count} of a mini-batch, and on one that it embedded before: {why}"
            )
        return vectors, failures, calls

    def _try(self, payloads: Sequence[Any], cost: int) -> np.ndarray | Refusal:
        """Returns the vectors, or why there are none."""
        try:
            vectors = self.encoder.embed(payloads)
        except ModelError:
            raise
        except Exception as e:  # whatever it is, it is the payload's fault until proven otherwise
            if not _out_of_memory(e):
                return "the model refuses it", f"{type(e).__name__}: {first_line(e)}"
            if len(payloads) > 1:
                self._remember(cost)
            return _ALONE
        return vectors if np.isfinite(vectors).all() else _NAN

    def _remember(self, cost: int) -> None:
        fits = max(1, cost // 2)
        with self._lock:
            if fits < self._fits:
                self._fits = fits
                message = "out of memory at %d tokens: mini-batches are cut at %d from here on"
                _LOG.warning(message, cost, fits)

    def _embeds_what_it_did(self) -> bool:
        try:
            if self._good is None:
                (self._good,), _ = self.encoder.prepare([self.encoder.sample])
            return bool(np.isfinite(self.encoder.embed([self._good])).all())
        except Exception:  # the question is only whether it works
            return False


def _out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; cuBLAS and cuDNN say so under the name of other errors."""
    kind = type(error).__name__
    no_allocation = kind == "InternalError" and "ALLOC_FAILED" in str(error)
    return no_allocation or kind == "ResourceExhaustedError" or isinstance(error, MemoryError)
