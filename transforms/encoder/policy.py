"""What is chosen for a machine when the user has not: pure functions, pinned by table tests."""

from __future__ import annotations

import dataclasses

GIB = 1 << 30


def default_batch_tokens(device: str, memory_bytes: int | None = None) -> int:
    """Token budget of a mini-batch.

    On CPUs 1,000 tokens fill the cores already, and stay in their caches: measured best with two mini-batches
    in flight. A GPU wants as much as fits; a quarter of its memory at 128 KiB of activations a token is a
    budget that a base-size transformer survives. What does not fit after all is halved at run time.

    >>> default_batch_tokens("CPU")
    1000
    >>> default_batch_tokens("GPU", 16 * GIB)
    32768
    """
    if device == "CPU":
        return 1000
    by_memory = (memory_bytes or 8 * GIB) // 4 // (128 << 10)
    return max(4096, min(131_072, 1 << (int(by_memory).bit_length() - 1)))


@dataclasses.dataclass(frozen=True, slots=True)
class Threads:
    """Threads of one process.

    Attributes:
      in_flight: mini-batches inside the model at once, of all DoFn instances together.
      intra_op: threads of one TF op; 0 leaves it to TF.
    """

    in_flight: int
    intra_op: int

    def fills(self, *, cores: int, device: str) -> int:
        """How many mini-batches inside the model leave no part of the device idle.

        >>> Threads(3, 1).fills(cores=2, device="CPU"), Threads(2, 0).fills(cores=16, device="GPU")
        (2, 1)
        """
        return 1 if device != "CPU" else min(self.in_flight, -(-cores // max(1, self.intra_op)))


def threads(*, cores: int, device: str) -> Threads:
    """How many mini-batches are in flight in a process, and how many threads each may use.

    On CPUs a mini-batch has one core and every core a mini-batch: two mini-batches of one thread each beat
    one of two, and TF's threads for one op are a pool that all mini-batches of the process share. On a GPU a
    second mini-batch hides reading, tokenizing and writing behind the model.

    >>> threads(cores=2, device="CPU"), threads(cores=16, device="GPU")
    (Threads(in_flight=2, intra_op=1), Threads(in_flight=2, intra_op=0))
    """
    return Threads(max(1, cores), 1) if device == "CPU" else Threads(2, 0)
