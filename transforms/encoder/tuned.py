"""What `tune` found best for a model on a machine, kept in the user's cache."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

from transforms.encoder.model.handle import cache_dir
from transforms.encoder.policy import Threads


@dataclasses.dataclass(frozen=True, slots=True)
class Tuned:
    """The best mini-batches of a model on a device.

    Attributes:
      model_digest, device, cores: what it was found for; the device as the machine calls it.
      batch_tokens: token budget of a mini-batch.
      in_flight, intra_op: as in Threads.
      tokens_per_second: of the budget, in the median.
      date: UTC, as YYYY-MM-DD.
      tensorflow: its version.
    """

    model_digest: str
    device: str
    cores: int
    batch_tokens: int
    in_flight: int
    intra_op: int
    tokens_per_second: float
    date: str
    tensorflow: str

    @property
    def threads(self) -> Threads:
        return Threads(self.in_flight, self.intra_op)

    @property
    def where(self) -> str:
        """The device in words."""
        return f"{self.device}, {self.cores} core{'' if self.cores == 1 else 's'}"


def path_of(model_digest: str, device: str, cores: int) -> Path:
    """Where the record of a model on a device lies; its plots lie beside it."""
    machine = hashlib.sha256(f"{device}\0{cores}".encode()).hexdigest()[:12]
    return cache_dir() / "tuned" / f"{model_digest[:24]}-{machine}.json"


def read(model_digest: str, device: str, cores: int) -> Tuned | None:
    """What was found for a model on a device; None where nothing was, or the file is none."""
    try:
        found = Tuned(**json.loads(path_of(model_digest, device, cores).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    numbers = (found.batch_tokens, found.in_flight, found.intra_op)
    sound = all(type(number) is int for number in numbers) and min(numbers[:2]) > 0 <= numbers[2]
    same = (found.model_digest, found.device, found.cores) == (model_digest, device, cores)
    return found if same and sound else None


def remember(found: Tuned) -> Path:
    """Keeps a record, in the place of the one that was there; whole or not at all. Returns its path."""
    path = path_of(found.model_digest, found.device, found.cores)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "w") as f:
            json.dump(dataclasses.asdict(found), f, indent=1)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path
