"""Gzip files whose members are records: walked from any member to any other, so that such files can be cut.

The first bytes of a member are no proof of one: a record may hold a gzip file, byte for byte, since deflate
stores what it cannot shrink. So a cut is looked for once, when the plan is made, and both of its sides are
held to it: who reads up to it has to arrive there exactly. So nothing is lost or read twice.
"""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from transforms.errors import BadFileError

_MAGIC = b"\x1f\x8b\x08"
_BLOCK = 1 << 16
# Deflate stores at most 65,535 bytes together, so stored members of another file end before so many.
_PROOF = 1 << 17


@dataclasses.dataclass(slots=True)
class Member:
    """One member, or what is there instead.

    Attributes:
      start, end: its bytes in the file.
      data: decompressed; no more than was asked for.
      size: decompressed bytes, all of them.
      damage: why it is none; None if it is sound. Then it reaches to the next sound member.
    """

    start: int
    end: int
    data: bytes
    size: int
    damage: str | None = None


class _Truncated(Exception):
    """The file ends inside a member."""


class _Walk:
    """Decompresses members from a byte of the file on."""

    def __init__(self, stream: BinaryIO, start: int, end: int | None = None):
        stream.seek(start)
        self._stream, self._end = stream, end
        self._pending = b""
        self.at = start  # of the first byte that no member has taken

    def member(self, most: int) -> Member | None:
        """The next member; None at the file's end, or where it does not begin before `end`.

        Raises:
          zlib.error: it is damaged. _Truncated: the file ends in it.
        """
        while not (pending := self._pending.lstrip(b"\0")):  # zeros: padding to a tape's block
            self.at += len(self._pending)
            self._pending = self._stream.read(_BLOCK)
            if not self._pending:
                return None
        self.at += len(self._pending) - len(pending)
        if self._end is not None and self.at >= self._end:
            self._pending = pending
            return None
        start, size, data = self.at, 0, bytearray()
        inflate = zlib.decompressobj(wbits=31)
        while not inflate.eof:
            if not pending:
                pending = self._stream.read(_BLOCK)
                if not pending:
                    self._pending = b""
                    raise _Truncated
            found = inflate.decompress(pending, 1 << 20)
            left = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            self.at += len(pending) - len(left)
            pending = left
            size += len(found)
            if len(data) < most:
                data += found[: most - len(data)]
        self._pending = pending
        return Member(start, self.at, bytes(data), size)


def members(
    stream: BinaryIO, source: str, *, start: int, end: int | None, most: int, head: bytes
) -> Iterator[Member]:
    """Yields the members that begin in [start, end), and what lies from a damaged one to the next sound one.

    Args:
      source: what errors call the file.
      start, end: members begin there; None is the file's end.
      most: no more of a member's data is held.
      head: with which every member's data begins; tells members from bytes that look like them.

    Raises:
      BadFileError: the file is truncated, or no gzip, or no member ends at `end`.
    """
    walk = _Walk(stream, start, end)
    while True:
        begin = walk.at
        try:
            member = walk.member(most)
        except (zlib.error, _Truncated) as e:
            begin = max(begin, _first_of(stream, begin))
            following = next_member(stream, begin + 1, end=end, head=head, proof=0)
            if following is None and end is None:
                raise BadFileError(source, begin, _hopeless(e, begin)) from e
            reach = end if following is None else following
            assert reach is not None
            yield Member(begin, reach, _read(stream, begin, _BLOCK), reach - begin, _words(e))
            walk = _Walk(stream, reach, end)
            continue
        if member is None:
            break
        yield member
    if end is not None and walk.at != end:
        reason = (
            f"no record begins at byte {end}, where the file was cut; plan again in a new folder with a "
            "`shard_bytes` that leaves it whole"
        )
        raise BadFileError(source, walk.at, reason)


def next_member(
    stream: BinaryIO, start: int, *, end: int | None, head: bytes, proof: int = _PROOF
) -> int | None:
    """Where the first member at `start` or later begins; None if none does before `end`.

    Args:
      proof: members have to follow each other for so many bytes, or to the file's end.
    """
    at = start
    while end is None or at < end:
        stream.seek(at)
        block = stream.read(_BLOCK)
        found = -1
        while (found := block.find(_MAGIC, found + 1)) >= 0:
            if end is not None and at + found >= end:
                return None
            if _is_member(stream, at + found, head, proof):
                return at + found
        if len(block) < _BLOCK:
            return None
        at += len(block) - len(_MAGIC) + 1
    return None


def _is_member(stream: BinaryIO, at: int, head: bytes, proof: int) -> bool:
    walk = _Walk(stream, at)
    try:
        while True:
            member = walk.member(len(head))
            if member is None:
                return walk.at > at
            if member.data != head:
                return False
            if walk.at - at >= proof:
                return True
    except (zlib.error, _Truncated):
        return False


def cuts(stream: BinaryIO, size: int, target: int, *, head: bytes) -> list[int]:
    """Members that begin about `target` bytes after each other, 0 and `size` included."""
    count = -(-size // target)
    wanted = [size * i // count for i in range(count + 1)]
    found = {0, size}
    for start, end in itertools.pairwise(wanted[1:]):
        at = next_member(stream, start, end=end, head=head)
        if at is not None:
            found.add(at)
    return sorted(found)


def _first_of(stream: BinaryIO, at: int) -> int:
    """The first byte at `at` or later that is no padding."""
    stream.seek(at)
    block = stream.read(_BLOCK)
    return at + len(block) - len(block.lstrip(b"\0"))


def _read(stream: BinaryIO, at: int, size: int) -> bytes:
    stream.seek(at)
    return stream.read(size)


def _words(error: Exception) -> str:
    return "it has no end" if isinstance(error, _Truncated) else str(error)


def _hopeless(error: Exception, at: int) -> str:
    if isinstance(error, _Truncated):
        return "truncated gzip: the file ends inside a record; fetch the file again"
    if at == 0:
        return f"not gzip, though its name says so: {error}; rename it or fetch it again"
    return f"damaged gzip: {error}, and no record begins behind it; fetch the file again"
