"""One encoder a process, shared between the DoFns and threads in it."""

from __future__ import annotations

from collections.abc import Callable

from apache_beam.utils.shared import Shared

from transforms.encoder.config import ModelConfig
from transforms.encoder.hub import HubEncoder
from transforms.encoder.protocol import Encoder
from transforms.encoder.robust import RobustEncoder


class SharedEncoder:
    """Pickles to any worker, where `acquire` loads the model once and then returns the same one again."""

    def __init__(self, config: ModelConfig, load: Callable[[ModelConfig], Encoder] = HubEncoder):
        self.config = config
        self._load = load
        self._shared = Shared()

    def acquire(self) -> RobustEncoder:
        """Returns the process's encoder; the caller must keep the reference, Beam keeps only the last one."""
        return self._shared.acquire(lambda: RobustEncoder(self._load(self.config)))

    def keep(self, loaded: Encoder) -> None:
        """Takes a model that is loaded for this process's later calls (the reference is not pickled)."""
        self._kept = self._shared.acquire(lambda: RobustEncoder(loaded))

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_kept"}
