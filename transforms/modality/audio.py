"""Recordings as payloads: encoded bytes, cut into windows of which each is decoded by itself."""

from __future__ import annotations

import dataclasses
import io
import wave
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa

from transforms.modality.protocol import Count, Encoded
from transforms.modality.recording import opened, resampled, resampled_length
from transforms.modality.sound import BadSound
from transforms.texts import Refusal, not_of_type

DEFAULT_RATE = 16_000
TOKENS_A_SECOND = 100
# More vectors of one document would not fit into memory: 10 hours in windows of half a second.
_MOST_WINDOWS = 1 << 16


class Clip(NamedTuple):
    """A window of a recording that is not decoded yet; start and end in samples at the model's rate."""

    data: Any
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Audio(Encoded):
    """The modality of sound; see Modality. Spans are samples at the model's rate, a token is 10 ms.

    Attributes:
      rate: samples a second that the model takes.
      window: the most samples at once.
      overlap: samples of the end of a window that the next one repeats.
    """

    name: ClassVar[str] = "audio"
    field: ClassVar[str] = "audio"
    bytes_a_token: ClassVar[int] = 8 << 10  # four channels of 96 kHz in 24 bits have 11 KiB
    cuts_late: ClassVar[bool] = True

    rate: int = DEFAULT_RATE
    window: int = 30 * DEFAULT_RATE
    overlap: int = 0

    def refusal(self, value: Any, field: str) -> Refusal | None:
        if not isinstance(value, bytes):
            return not_of_type(value, field, "bytes")
        try:
            windows = self._windows(self.length(value), self.window)
        except BadSound as e:
            return e.why
        if windows > _MOST_WINDOWS:
            return "too long", f"{windows:,} windows, expected at most {_MOST_WINDOWS:,}; cut the recording"
        return None

    def values(self, payloads: pa.Array) -> Sequence[Any]:
        return [payload.as_buffer() for payload in payloads]  # they are large, and not copied

    def shown(self, payload: Any) -> str:
        return f"{len(payload):,} bytes of audio" if isinstance(payload, bytes) else repr(payload)

    def length(self, payload: Any) -> int:
        """Samples at the model's rate, as the recording's header tells."""
        sound = opened(payload)
        if not (samples := resampled_length(sound.frames, sound.rate, self.rate)):
            raise BadSound("no audio", "it has no samples")
        return samples

    def estimate(self, payloads: Sequence[Any]) -> np.ndarray:
        return np.array([self.tokens(self.length(payload)) for payload in payloads], np.int64)

    def tokens(self, samples: int) -> int:
        """One for each 10 ms; more than the window has where there is a sample more.

        >>> Audio().tokens(16_000), Audio().tokens(480_000), Audio().tokens(480_001)
        (100, 3000, 3001)
        """
        tokens = -(-samples * TOKENS_A_SECOND // self.rate)
        return tokens if samples <= self.window else max(tokens, self.tokens(self.window) + 1)

    def split(
        self, payloads: Sequence[Any], *, window: int, overlap: int, count: Count, most: int | None = None
    ) -> list[np.ndarray]:
        """Windows of equal length, but for the last one, which has what is left, and a second at least.

        Args:
          overlap: is not looked at: how much windows overlap is said in seconds.
        """
        size = min(self.window, window * self.rate // TOKENS_A_SECOND)
        return [self._spans(self.length(payload), size)[:most] for payload in payloads]

    def _windows(self, length: int, size: int) -> int:
        return 1 + max(0, -(-(length - size) // self._step(size)))

    def _step(self, size: int) -> int:
        return max(1, size - self.overlap)

    def _spans(self, length: int, size: int) -> np.ndarray:
        starts = np.arange(self._windows(length, size), dtype=np.int64) * self._step(size)
        ends = np.minimum(starts + size, length)
        starts[-1] = max(0, min(starts[-1], length - min(size, self.rate)))
        tokens = -(-(ends - starts) * TOKENS_A_SECOND // self.rate)
        return np.stack([starts, ends, tokens], axis=1)

    def cut(self, payload: Any, start: int, end: int) -> Any:
        return Clip(payload, start, end)

    def place(self, spans: np.ndarray) -> np.ndarray:
        """In seconds."""
        return spans / self.rate

    def samples(self, payload: Any) -> np.ndarray:
        """Samples of a clip, or of a whole recording.

        Returns:
          float32 [samples] at the model's rate, mono.

        Raises:
          BadSound: the recording is damaged there, or holds what is no number.
        """
        clip = payload if isinstance(payload, Clip) else Clip(payload, 0, self.length(payload))
        made = resampled(opened(clip.data), self.rate, clip.start, clip.end)
        if not np.isfinite(made).all():
            raise BadSound("damaged audio", "NaN or infinity among its samples")
        return made


def tone(rate: int, seconds: float = 1.0) -> bytes:
    """A quiet tone as a WAV file, which every model embeds."""
    t = np.arange(round(rate * seconds)) / rate
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((3000 * np.sin(2 * np.pi * 440 * t)).astype("<i2").tobytes())
    return made.getvalue()
