"""Recordings that FFmpeg reads."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from transforms.modality.sound import MARGIN, BadSound, ends_early

if TYPE_CHECKING:
    import pyarrow as pa

# Containers round their duration, and some encoders leave out the last packet: seconds.
_TOLERATED = 0.1
# None of them names other files to be read, as playlists do.
_FORMATS = "mov,matroska,aac,mpegts,asf,ac3,eac3,amr,ape,wv,tta,caf"


class Container:
    """A recording that FFmpeg reads; see Sound."""

    def __init__(self, buffer: pa.Buffer, reason: str):
        """Looks at the first audio stream.

        Args:
          reason: why libsndfile does not read it.
        """
        import av

        options = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}
        try:
            self._in: Any = av.open(_Bytes(buffer), options=options, metadata_errors="replace")
        except (av.FFmpegError, OSError) as e:
            raise BadSound("not audio", f"libsndfile: {reason} FFmpeg: {e.strerror or e}") from e
        if not self._in.streams.audio or not self._in.streams.audio[0].codec_context.sample_rate:
            raise BadSound("no audio", "the container has no stream of it")
        self._stream = self._in.streams.audio[0]
        self.rate: int = self._stream.codec_context.sample_rate
        self._base = float(self._stream.time_base or 0)
        self._origin = self._stream.start_time or 0

    @functools.cached_property
    def frames(self) -> int:
        """By the packets to its end, since headers round; unless a header knows of much more."""
        with _damaged():
            self._in.seek(self._origin, stream=self._stream)
            packets = [(p.pts, p.duration) for p in self._in.demux(self._stream)]
        end = max((pts + duration for pts, duration in packets if None not in (pts, duration)), default=0)
        seconds = (end - self._origin) * self._base
        stated = (self._in.duration or 0) / 1e6 if self._in.format.name[:3] in ("mat", "mov") else 0.0
        return round((stated if stated > seconds + 1 else seconds) * self.rate)

    def read(self, start: int, stop: int, least: int) -> np.ndarray:
        made, reached = np.zeros(stop - start, np.float32), start
        at = (start / self.rate - MARGIN) / self._base  # before its begin, too: encoders put something there
        with _damaged():
            self._in.seek(int(at) + self._origin, stream=self._stream)
            for frame in self._in.decode(self._stream):
                first = round((frame.pts - self._origin) * self._base * self.rate)
                if first >= stop:
                    break
                if first + frame.samples > start:
                    a, b = max(first, start), min(first + frame.samples, stop)
                    made[a - start : b - start] = _mono(frame)[a - first : b - first]
                    reached = b
        if reached < least - _TOLERATED * self.rate:
            raise ends_early(reached, self)
        return made[: reached - start]


@contextlib.contextmanager
def _damaged() -> Iterator[None]:
    import av

    try:
        yield
    except (av.FFmpegError, OSError) as e:
        raise BadSound("damaged audio", f"{e.strerror or e}; fetch the file again") from e


class _Bytes:
    """A buffer as FFmpeg reads it, which seeks beyond the end, too."""

    def __init__(self, buffer: pa.Buffer):
        self._view, self._at = memoryview(buffer), 0

    def read(self, size: int) -> bytes:
        found = bytes(self._view[self._at : self._at + size])
        self._at += len(found)
        return found

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, len(self._view))[whence])
        return self._at

    def tell(self) -> int:
        return self._at


def _mono(frame: Any) -> np.ndarray:
    """The mean of a frame's channels, float32 [samples]."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(frame.samples, -1).T
    if values.dtype.kind in "iu":
        middle = 128 if values.dtype.kind == "u" else 0
        values = (values.astype(np.float32) - middle) / 2.0 ** (8 * values.dtype.itemsize - 1)
    mono: np.ndarray = values.mean(axis=0, dtype=np.float32)
    return mono
