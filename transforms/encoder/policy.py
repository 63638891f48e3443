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
      in_flight: mini-batches that one DoFn instance keeps inside the model at once.
      intra_op: threads of one TF op; 0 leaves it to TF.
    """

    in_flight: int
    intra_op: int


def threads(*, cores: int, device: str, runner_threads: int = 1) -> Threads:
    """How many mini-batches are in flight, and how many threads each may use.

    Two in flight hide reading, tokenizing and writing behind the model. On CPUs the cores are shared out
    between them, because two mini-batches of one thread each beat one of two. A runner that has several
    threads of its own in the process brings the overlap itself.

    >>> threads(cores=2, device="CPU")
    Threads(in_flight=2, intra_op=1)
    >>> threads(cores=16, device="CPU", runner_threads=4)
    Threads(in_flight=1, intra_op=4)
    """
    in_flight = 1 if runner_threads > 1 or (cores < 2 and device == "CPU") else 2
    if device != "CPU":
        return Threads(in_flight, 0)
    return Threads(in_flight, max(1, cores // (in_flight * runner_threads)))
