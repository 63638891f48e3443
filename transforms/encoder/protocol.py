"""What the job needs of a loaded model, whatever it is made with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from transforms.encoder.policy import Threads
from transforms.modality import Modality
from transforms.texts import Refusal

if TYPE_CHECKING:
    import pyarrow as pa


class Encoder(Protocol):
    """Payloads in, vectors out. Its methods may be called from several threads.

    Attributes:
      modality: what its payloads are.
      dim: length of a vector.
      dtype: of the model's own numbers, before they become float32.
      unit_length: whether its vectors have length 1, within what bfloat16 can tell.
      window: the most tokens that it embeds at once, special tokens included; None if it does not say.
      can_count: whether tokenize works.
      prepares: whether `prepare` does work that is worth a thread of its own, such as decoding.
      sample: a payload that it is known to embed.
      digest: of its files.
      device: CPU or GPU.
      device_name: as the machine calls it.
      threads: how many call it at once, and how many each call has; None: by the device.
      device_memory: bytes of the GPU; None on a CPU, or where nobody tells.
    """

    modality: Modality
    dim: int
    dtype: str
    unit_length: bool
    window: int | None
    can_count: bool
    prepares: bool
    sample: Any
    digest: str
    device: str
    device_name: str
    device_memory: int | None
    threads: Threads | None

    def prepare(self, payloads: Sequence[Any]) -> tuple[Sequence[Any], dict[int, Refusal]]:
        """What `embed` takes, one for each payload, and by its number why one cannot be embedded."""

    def embed(self, prepared: Sequence[Any]) -> np.ndarray:
        """Returns float32 [len(prepared), dim]; NaN or infinity where the model makes them so."""

    def tokenize(self, payloads: Sequence[Any]) -> tuple[np.ndarray, pa.Array | None]:
        """Tokens before truncation, special tokens included, int64 [len(payloads)].

        And list<int32> [len(payloads)]: token ids that `prepare` takes in the payloads' place, of payloads of
        at most `window` tokens; None where the model takes no ids, or makes them itself.
        """

    def estimate(self, payloads: Sequence[Any]) -> np.ndarray:
        """Returns int64 [len(payloads)]: their cost in tokens, where it cannot count."""
