"""Recordings of any format, and windows of them at another rate, without the whole."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from transforms.modality.container import Container
from transforms.modality.sound import MARGIN, BadSound, Bytes, File, Sound

if TYPE_CHECKING:
    import pyarrow as pa

NEEDS = ("soundfile", "soxr", "av")
# What a recording may have; a header says anything, and a resampler's memory goes with it.
_RATES = 1_000, 768_000
# By this libsndfile says that there is no such file, of an MP3 that ends too early, too.
_NO_FILE = 7


def opened(data: Any) -> Sound:
    """Opens encoded bytes, or a buffer of them: by libsndfile what it knows, by FFmpeg the rest.

    Raises:
      BadSound: it is no sound, or its end is missing.
    """
    import pyarrow as pa
    import soundfile

    buffer = data if isinstance(data, pa.Buffer) else pa.py_buffer(data)
    if not buffer.size:
        raise BadSound("no audio", "the file is empty")
    if reason := _cut_off(buffer):
        raise BadSound("damaged audio", f"{reason}; fetch the file again")
    sound: Sound
    try:
        sound = File(soundfile.SoundFile(Bytes(buffer)))
    except soundfile.LibsndfileError as e:
        sound = Container(buffer, "no frame of it is whole." if e.code == _NO_FILE else e.error_string)
    if not _RATES[0] <= sound.rate <= _RATES[1]:
        raise BadSound("damaged audio", f"{sound.rate:,} samples a second; expected {_RATES[0]:,} or more")
    return sound


def _cut_off(buffer: pa.Buffer) -> str:
    """What says that a file's end is missing where libsndfile says nothing; "" if nothing does."""
    head = buffer.slice(0, min(12, buffer.size)).to_pybytes()
    if head[:4] in (b"RIFF", b"FORM"):
        size = int.from_bytes(head[4:8], "little" if head[:4] == b"RIFF" else "big")
        # What writes into a pipe does not know, and says 0 or almost 2 or 4 GiB.
        if size < 0x7FFF_F000 and size + 8 > buffer.size:
            return f"truncated: {buffer.size:,} bytes, its header says {size + 8:,}"
    if head[:4] == b"OggS":
        tail = buffer.slice(max(0, buffer.size - 70_000)).to_pybytes()  # a page and its header have less
        last = tail.rfind(b"OggS")
        if not 0 <= last < len(tail) - 5 or not tail[last + 5] & 4:
            return "truncated: the stream's last page is not there"
    return ""


def resampled_length(frames: int, of: int, to: int) -> int:
    """Samples at another rate, as soxr makes them.

    >>> resampled_length(1001, 44100, 16000), resampled_length(1002, 44100, 16000)
    (363, 364)
    """
    return (2 * frames * to + of) // (2 * of)


def resampled(sound: Sound, rate: int, start: int, stop: int) -> np.ndarray:
    """A window as resampling all of the recording would have it.

    Args:
      rate: that is wanted.
      start, stop: samples at this rate.

    Returns:
      float32 [stop - start], mono.

    Raises:
      BadSound: the recording is damaged there.
    """
    import soxr

    if sound.rate == rate:
        made, begin = sound.read(start, stop, stop), 0
    else:
        # A stretch around it that begins where a sample of both rates does.
        grid = sound.rate // math.gcd(sound.rate, rate)
        first = max(0, int((start / rate - MARGIN) * sound.rate)) // grid * grid
        last = int((stop / rate + MARGIN) * sound.rate) + 1
        stretch = sound.read(first, last, (stop - 1) * sound.rate // rate)
        made, begin = soxr.resample(stretch, sound.rate, rate), start - first * rate // sound.rate
    found: np.ndarray = made[begin : begin + stop - start]
    return np.pad(found, (0, stop - start - len(found)))  # what containers round
