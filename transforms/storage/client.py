"""What is asked of a bucket, whichever the store."""

from __future__ import annotations

from typing import BinaryIO, Protocol

BLOCK = 8 << 20  # bytes of a request: what an open file or an upload holds in memory
CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0  # for an answer; a large upload gives one for every block
KIND = "application/octet-stream"
Listed = list[tuple[str, int, float]]  # key, bytes, time of the last change


class CredentialsError(Exception):
    """Nobody says who we are; the text says what was found."""


class Client(Protocol):
    """What is asked of a bucket. Errors are the library's; retries.status_of knows them all."""

    def list(self, prefix: str) -> Listed:
        """All objects whose key begins so; a folder's empty marker has a key that ends with a slash."""

    def list_folder(self, folder: str) -> Listed:
        """The objects directly in `folder/`."""

    def head(self, key: str) -> tuple[int, float]: ...
    def get(self, key: str) -> bytes: ...
    def get_range(self, key: str, begin: int, end: int) -> bytes: ...
    def put(self, key: str, file: BinaryIO, size: int) -> None: ...
    def create(self, key: str, data: bytes) -> None:
        """Writes where nothing is; fails with 409 or 412 where something is."""

    def delete(self, key: str) -> None: ...
    def probe(self) -> None:
        """Asks for some names, to see whether the bucket answers."""
