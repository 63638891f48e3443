"""Encoded sound: what its header tells, and its samples from one to another, without the whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from transforms.texts import Refusal

if TYPE_CHECKING:
    import pyarrow as pa

_AT_ONCE = 1 << 20  # samples of all channels
# So much before a window is decoded too: decoders need to get going, and a resampler's filter reaches out.
MARGIN = 0.25


class BadSound(ValueError):
    """Bytes that are no sound, or not all of one.

    Attributes:
      why: kind and detail, as a dead letter has them.
    """

    def __init__(self, kind: str, detail: str = ""):
        super().__init__(f"{kind}: {detail}")
        self.why: Refusal = (kind, detail)


class Sound(Protocol):
    """An opened recording.

    Attributes:
      rate: samples a second.
      frames: samples of each channel.
    """

    rate: int

    @property
    def frames(self) -> int: ...

    def read(self, start: int, stop: int, least: int) -> np.ndarray:
        """The mean of all channels, float32, from a sample to another one or to the end.

        Raises:
          BadSound: it is damaged, or ends before `least`.
        """


class Bytes:
    """A buffer as a file that may be sought beyond both ends, as decoders of damaged files do."""

    def __init__(self, buffer: pa.Buffer):
        self._view, self._at = memoryview(buffer), 0

    def read(self, size: int) -> bytes:
        found = bytes(self._view[self._at : self._at + size])
        self._at += len(found)
        return found

    def readinto(self, room: Any) -> int:
        found = self._view[self._at : self._at + len(room)]
        room[: len(found)] = found
        self._at += len(found)
        return len(found)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = min(max(0, offset + (0, self._at, len(self._view))[whence]), 1 << 62)
        return self._at

    def tell(self) -> int:
        return self._at


class File:
    """A recording that libsndfile reads, and seeks in to the very sample; see Sound."""

    def __init__(self, file: Any):
        self._file = file
        self.rate: int = file.samplerate
        self.frames: int = file.frames

    def read(self, start: int, stop: int, least: int) -> np.ndarray:
        parts, at, most = [np.empty(0, np.float32)], start, max(1, _AT_ONCE // self._file.channels)
        stop = min(stop, self.frames)
        with _damaged():
            self._file.seek(start)
            while at < stop:
                found = self._file.read(min(most, stop - at), dtype="float32", always_2d=True)
                if not len(found):
                    raise ends_early(at, self)
                parts.append(found.mean(axis=1, dtype=np.float32))
                at += len(found)
        return np.concatenate(parts)


@contextlib.contextmanager
def _damaged() -> Iterator[None]:
    import soundfile

    try:
        yield
    except soundfile.SoundFileError as e:
        raise BadSound("damaged audio", f"{getattr(e, 'error_string', e)} Fetch the file again") from e


def ends_early(at: int, sound: Sound) -> BadSound:
    ends, expected = at / sound.rate, sound.frames / sound.rate
    return BadSound(
        "damaged audio", f"ends after {ends:.2f} s, its header says {expected:.2f} s; fetch the file again"
    )
