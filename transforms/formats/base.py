"""What a format is, and the raw blocks that it reads."""

from __future__ import annotations

import dataclasses
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from transforms.blocks import BLOCK_BYTES, BLOCK_DOCUMENTS
from transforms.elements import RECORD_BYTES, Slice
from transforms.formats.compression import SUFFIXES, compression_of, open_decompressed

if TYPE_CHECKING:
    import pyarrow as pa

_Item = TypeVar("_Item")
Bad = dict[int, tuple[str, str]]  # kind and detail, by number of the record in its block
# Position, content, bytes, and what is wrong with it.
Record = tuple[int, Any, int, tuple[str, str] | None]
# So much of a record that is too long goes into its dead letter.
HEAD_BYTES = 4 << 10


@dataclasses.dataclass(frozen=True, slots=True)
class ReadOptions:
    """What to take from records that have fields.

    Attributes:
      payload_fields: names of the fields or columns that make the payload; mostly one.
      payload_kind: what they hold: text, bytes (given as they are) or any (values as they are).
      id_field: name of the field that holds the document's id; None makes ids from file and position.
      keep_fields: names of fields that go with the document to the output.
      kept: types of the kept fields, by name, once they are known; for formats whose values have none.
    """

    payload_fields: tuple[str, ...] = ("text",)
    payload_kind: str = "text"
    id_field: str | None = None
    keep_fields: tuple[str, ...] = ()
    kept: tuple[tuple[str, str], ...] = ()

    @property
    def payload_field(self) -> str:
        """The first of them, which names what formats give that have no fields."""
        return self.payload_fields[0]

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields that are read, each once."""
        return tuple(dict.fromkeys((*self.strict, *self.keep_fields)))

    @property
    def strict(self) -> tuple[str, ...]:
        """The fields that make a document: payload and id."""
        return (*self.payload_fields, *(() if self.id_field is None else (self.id_field,)))


@dataclasses.dataclass(slots=True, eq=False)
class RawBlock:
    """Some records of a slice as the format knows them, in file order.

    Attributes:
      positions: int64 [records].
      columns: for each field a value per record: a list (ABSENT for a field that is missing, a
        UnicodeDecodeError for bytes that are not UTF-8), or an Arrow array. Fields that the format cannot
        have are left out.
      record: the text of a record (its number in the block), for a dead letter; None for a file of bytes.
      size: bytes of the records, decompressed.
      bytes: how many bytes of the file were read for them; for progress.
      bad: kind and detail of the records that are none, by number; their values mean nothing.
      types: of the fields, where the file states them, as str() names Arrow's; string for all forms of text,
        json for nested types.
      whole: whether each record is a file of its own, whose bytes are the payload.
      ids: of the records, where the format has some of its own; used where the user names no field of ids.
        None for a record that has none.
      sources: of the records, where the format knows that they were read from other files before.
      skipped: how many records since the block before are no documents, by what they are.
    """

    positions: np.ndarray
    columns: dict[str, list[Any] | pa.Array]
    record: Callable[[int], str | None]
    size: int
    bytes: int
    bad: Bad = dataclasses.field(default_factory=dict)
    types: Mapping[str, str] = dataclasses.field(default_factory=dict)
    whole: bool = False
    ids: list[str | None] | None = None
    sources: list[str] | pa.Array | None = None
    skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)


def decompress(slice: Slice, options: ReadOptions) -> None:
    """Decompresses a file to its end; a plain one need only open."""
    block = bytearray(1 << 20)
    with open_decompressed(slice.path, source=slice.source) as stream:
        if compression_of(slice.path) is not None:
            while stream.readinto(block):  # type: ignore[attr-defined]
                pass


def whole_files(files: Sequence[Slice], target: int) -> list[list[Slice]]:
    """Cuts nothing."""
    return [[file] for file in files]


def byte_ranges(files: Sequence[Slice], target: int) -> list[list[Slice]]:
    """Cuts files that are not compressed into ranges of about `target` bytes."""

    def ranges(whole: Slice) -> list[Slice]:
        if compression_of(whole.path) is not None or whole.size <= target:
            return [whole]
        count = -(-whole.size // target)
        cuts = [whole.size * i // count for i in range(count + 1)]
        return [dataclasses.replace(whole, start=a, end=b, bytes=b - a) for a, b in itertools.pairwise(cuts)]

    return [ranges(file) for file in files]


@dataclasses.dataclass(frozen=True)
class Format:
    """One format, which a module of this folder holds. What it needs is imported when it is used.

    Attributes:
      name: as users name it.
      extensions: of its files.
      read: slice and options to raw blocks, in file order, of no more records than the slice's limit.
      check: finds out, in constant memory, whether a slice can be read to its end; raises what read would.
      codecs: suffixes of compression it may have; "" is none.
      aliases: more extensions, of files that are taken from a folder where the user names the format.
      cut: whole files into slices of about so many bytes.
      has_fields: whether records have named fields.
      whole: whether a file is one document.
      cut_codecs: suffixes of compression with which `cut` can cut a file.
      holds: the modality whose files alone these are; "" where they may hold anything.
      needs: packages that must be there to read it, and the extra that installs them.
    """

    name: str
    extensions: tuple[str, ...]
    read: Callable[[Slice, ReadOptions], Iterator[RawBlock]]
    check: Callable[[Slice, ReadOptions], None] = decompress
    codecs: tuple[str, ...] = ("", *SUFFIXES)
    aliases: tuple[str, ...] = ()
    cut: Callable[[Sequence[Slice], int], list[list[Slice]]] = whole_files
    has_fields: bool = True
    whole: bool = False
    cut_codecs: tuple[str, ...] = ("",)
    holds: str = ""
    needs: tuple[tuple[str, ...], str] = ((), "")

    def can_split(self, path: str) -> bool:
        """Whether slices of the file may start and end inside it."""
        codec = next((suffix for suffix in SUFFIXES if path.lower().endswith(suffix)), "")
        return self.cut is not whole_files and codec in self.cut_codecs


def packed(
    items: Iterable[_Item], size: Callable[[_Item], int], *, most_bytes: int, most: int | None = None
) -> Iterator[list[_Item]]:
    """Puts items together, in order, to lists of about so many bytes and at most so many items.

    >>> list(packed("abcdef", lambda item: 5 if item == "b" else 1, most_bytes=4, most=2))
    [['a'], ['b'], ['c', 'd'], ['e', 'f']]
    """
    some: list[_Item] = []
    total = 0
    for item in items:
        item_size = size(item)
        if some and total + item_size > most_bytes:
            yield some
            some, total = [], 0
        some.append(item)
        total += item_size
        # At once: the next may not be wanted, not be sound, and be as large again.
        if len(some) == most or total >= most_bytes:
            yield some
            some, total = [], 0
    if some:
        yield some


def in_blocks(
    slice: Slice,
    records: Iterator[Record],
    *,
    columns: Callable[[Sequence[Any], Bad], dict[str, list[Any] | pa.Array]],
    text: Callable[[Any], str],
    taken: Callable[[], int],
    ids: Callable[[Any], str | None] | None = None,
) -> Iterator[RawBlock]:
    """Collects records, no more than the slice's limit, to blocks of BLOCK_DOCUMENTS and about BLOCK_BYTES.

    Args:
      columns: makes the columns of records' contents, and may add to what is wrong with them.
      text: of a record's content, for a dead letter.
      taken: how many bytes of the file were read so far.
      ids: of a record's content, where the format has some.
    """
    before = slice.start

    def block(some: list[Record]) -> RawBlock:
        positions, contents, sizes, problems = zip(*some, strict=True)
        bad: Bad = {row: problem for row, problem in enumerate(problems) if problem}
        made = columns(contents, bad)
        size = taken() - before
        found = None if ids is None else list(map(ids, contents))
        return RawBlock(
            np.array(positions, np.int64),
            made,
            lambda row: text(contents[row]),
            sum(sizes),
            size,
            bad,
            ids=found,
        )

    wanted = itertools.islice(records, slice.limit)
    for some in packed(wanted, operator.itemgetter(2), most_bytes=BLOCK_BYTES, most=BLOCK_DOCUMENTS):
        made = block(some)
        del some  # it may be large, and is held by nobody while the next one is made
        yield made
        del made
        before = taken()


def too_long(size: int, most: int | None = None) -> tuple[str, str]:
    """Kind and detail of a record that is longer than a record may be."""
    return "too long", f"{size:,} bytes, expected at most {most or RECORD_BYTES:,}"
