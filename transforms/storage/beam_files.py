"""Any other scheme that Beam's file systems know, such as hdfs://."""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
from collections.abc import Iterable
from typing import Any, BinaryIO

from transforms.storage.client import KIND, FoundFile

WILDCARD = re.compile(r"[*?[]")


class BeamFiles:
    def __init__(self, base: str):
        from apache_beam.io.filesystem import CompressionTypes
        from apache_beam.io.filesystems import FileSystems

        try:
            self._files = FileSystems.get_filesystem(base)
        except ValueError as e:  # Beam knows no such scheme, or the extra for it is not installed
            raise OSError(str(e)) from e
        self._base, self._as_it_is = base, (KIND, CompressionTypes.UNCOMPRESSED)

    def _match(self, prefix: str, more: str) -> list[FoundFile]:
        # Beam's globs cannot quote a bracket: what else a looser one finds is left out.
        path = self._base + prefix
        (result,) = self._files.match([WILDCARD.sub("?", path) + more])
        found = (f for f in result.metadata_list if f.path.startswith(path))
        return [FoundFile(f.path, "", f.size_in_bytes, f.last_updated_in_seconds or None) for f in found]

    def list(self, prefix: str, *, deep: bool) -> Iterable[FoundFile]:
        below = len(self._base + prefix)
        found = self._match(prefix, "**" if deep else "*")
        return (file for file in found if deep or "/" not in file.path[below:])

    def _existing(self, key: str) -> str:
        if not self._files.exists(self._base + key):
            raise FileNotFoundError(self._base + key)
        return self._base + key

    def head(self, key: str) -> FoundFile:
        path = self._existing(key)
        if not (found := [file for file in self._match(key, "") if file.path == path]):
            raise FileNotFoundError(path)  # a folder, or gone since
        return found[0]

    def get(self, key: str, begin: int = 0, end: int | None = None) -> bytes:
        with self._files.open(self._existing(key), *self._as_it_is) as stream:
            stream.seek(begin)
            return stream.read(-1 if end is None else end - begin)

    def put(self, key: str, file: BinaryIO, size: int, *, new: bool) -> None:
        """A `new` one is not for several at once: Beam's file systems have no conditional writes."""
        if new and self._files.exists(self._base + key):
            raise FileExistsError(self._base + key)
        upload = self._files.create(self._base + key, *self._as_it_is)
        try:
            shutil.copyfileobj(file, upload, 1 << 20)
            upload.close()
        except BaseException:
            _never_close(upload)
            raise

    def copy(self, key: str, target: str) -> None:
        with self._files.open(self._existing(key), *self._as_it_is) as stream:
            self.put(target, stream, 0, new=False)

    def delete(self, key: str) -> None:
        self._files.delete([self._existing(key)])

    def version(self, key: str) -> str:
        raise _no_swap(self._base + key)

    def swap(self, key: str, data: bytes, version: str) -> None:
        raise _no_swap(self._base + key)


def _no_swap(path: str) -> OSError:
    return OSError(errno.ENOTSUP, "Beam's file systems have no conditional writes", path)


def _never_close(upload: Any) -> None:
    """Gives an upload up: closing it, as the garbage collector does, would publish half a file."""
    for stream in (upload, getattr(upload, "raw", None)):
        with contextlib.suppress(AttributeError):  # a BufferedWriter has no such slot, the stream in it has
            stream.close = lambda: None  # type: ignore[union-attr]
