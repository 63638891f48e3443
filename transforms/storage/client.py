"""What is asked of a bucket, whichever the store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO, NamedTuple, Protocol

BLOCK = 8 << 20  # bytes of a request: what an open file or an upload holds in memory
TIMEOUT = 5.0, 30.0  # seconds to connect, and for an answer; a large upload gives one for every block
KIND = "application/octet-stream"


class CredentialsError(Exception):
    """Nobody says who we are; the text says what was found."""


class FoundFile(NamedTuple):
    """A file: where it lies, its path below the root, bytes, and time of the last change if known.

    Stores leave `source` empty: they know no root; their times are whole seconds, since some answers have
    milliseconds, some none.
    """

    path: str
    source: str
    size: int
    mtime: float | None


class Client(Protocol):
    """What is asked of a bucket. Errors are the library's; retries.status_of knows them all."""

    def list(self, prefix: str, *, deep: bool) -> Iterable[FoundFile]:
        """The objects whose key begins so, as they come; without `deep` not those in folders below.

        Markers of folders, if any, end with a slash.
        """

    def head(self, key: str) -> FoundFile: ...
    def get(self, key: str, begin: int = 0, end: int | None = None) -> bytes: ...
    def put(self, key: str, file: BinaryIO, size: int, *, new: bool) -> None:
        """Writes a file from where it stands; where something is a `new` one fails, with 409 or 412."""

    def copy(self, key: str, target: str) -> None:
        """Copies an object within the bucket; its bytes stay in the store where it can copy."""

    def delete(self, key: str) -> None: ...
    def version(self, key: str) -> str:
        """Of an object as it is now; after any other write it is another one."""

    def swap(self, key: str, data: bytes, version: str) -> None:
        """Replaces an object of this version; any other fails, with 412."""
