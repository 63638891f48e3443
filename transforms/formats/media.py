"""Images and sounds: a document per file, whose bytes are the payload as they are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from transforms.elements import Slice
from transforms.formats.base import Bad, Format, RawBlock, ReadOptions, too_long
from transforms.storage import files

# A document is in memory as a whole, and stays there while its windows are embedded. The largest photos have
# some hundred megabytes; 1 GiB is 100 minutes of CD sound in WAV, or 18 hours of MP3 at 128 kbit/s.
MOST_BYTES = {"image": 256 << 20, "audio": 1 << 30}
IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
SOUNDS = ("wav", "flac", "ogg", "oga", "opus", "mp3", "m4a", "aac", "aiff", "aif")


def _read(slice: Slice, options: ReadOptions) -> Iterator[RawBlock]:
    bad: Bad = {}
    data, most = b"", MOST_BYTES[slice.format]
    if slice.size > most:
        bad[0] = too_long(slice.size, most)
    else:
        with files.open_read(slice.path) as stream:
            data = stream.read()
        if not data:
            bad[0] = "empty file", ""
    columns = {options.payload_field: [data]}
    yield RawBlock(np.zeros(1, np.int64), columns, lambda _: None, len(data), slice.bytes, bad, whole=True)


def _check(slice: Slice, options: ReadOptions) -> None:
    """Only a decoder could tell what is wrong with one; that is one document's matter."""
    files.open_read(slice.path).close()


def _format(name: str, extensions: tuple[str, ...]) -> Format:
    endings = tuple(f".{extension}" for extension in extensions)
    return Format(name, endings, _read, _check, codecs=("",), has_fields=False, whole=True, holds=name)


IMAGE = _format("image", IMAGES)
AUDIO = _format("audio", SOUNDS)
