"""Recordings that FFmpeg reads."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from transforms.modality.sound import MARGIN, BadSound, Bytes, ends_early

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
        with _refused("not audio", f"libsndfile: {reason} FFmpeg: ", ""):
            self._in: Any = av.open(Bytes(buffer), options=options, metadata_errors="replace")
        # Of a codec that FFmpeg does not know there is no context.
        if not self._in.streams.audio or not getattr(
            self._in.streams.audio[0].codec_context, "sample_rate", 0
        ):
            raise BadSound("no audio", "the container has no stream of it")
        self._stream = self._in.streams.audio[0]
        self.rate: int = self._stream.codec_context.sample_rate
        self._has_index = self._in.format.name.startswith(("mov", "matroska"))
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
        stated = (self._in.duration or 0) / 1e6 if self._has_index else 0.0
        return max(0, round((stated if stated > seconds + 1 else seconds) * self.rate))

    def read(self, start: int, stop: int, least: int) -> np.ndarray:
        made, reached = np.zeros(stop - start, np.float32), start
        # Before its begin, too, where that is possible: encoders put something there.
        earliest = -MARGIN if self._has_index else 0.0
        with _damaged():
            at = max(earliest, start / self.rate - MARGIN) / self._base
            self._in.seek(int(at) + self._origin, stream=self._stream)
            for frame in self._in.decode(self._stream):
                if frame.pts is None:
                    raise ValueError("a frame does not say when it is heard")
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
def _refused(kind: str, before: str, after: str) -> Iterator[None]:
    """What PyAV, and what reckons with what it says, raises of bytes that are damaged, as BadSound."""
    import av

    try:
        yield
    except (av.FFmpegError, OSError, ValueError, ArithmeticError, MemoryError, RuntimeError) as e:
        words = getattr(e, "strerror", None) or str(e) or type(e).__name__
        raise BadSound(kind, f"{before}{words}{after}") from e


def _damaged() -> contextlib.AbstractContextManager[None]:
    return _refused("damaged audio", "", "; fetch the file again")


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
