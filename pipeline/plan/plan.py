"""From input patterns to shards, the same on every machine."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.options.options import Options
from transforms.elements import Shard, Slice
from transforms.errors import BadFileError, UsageError
from transforms.formats import EXTENSIONS, ReadOptions, can_split, format_of, read_slice
from transforms.storage.files import FoundFile, full_path, is_local
from transforms.storage.listing import list_files

KIB, MIB = 1 << 10, 1 << 20
_MOST_SHARDS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a job reads.

    Attributes:
      root: what document ids and sources are relative to.
      shards: in the order of the input.
      files, input_bytes: of the input.
      shard_bytes: the target that was used.
      unknown: files in input folders that no format claims.
    """

    root: str
    shards: tuple[Shard, ...]
    files: int
    input_bytes: int
    shard_bytes: int
    unknown: tuple[str, ...] = ()


def default_shard_bytes(total_bytes: int, parallelism: int) -> int:
    """Input bytes of a shard: small enough that a kill costs minutes and workers finish together.

    Sixteen shards a worker even out, 256 KiB keep a shard's one short mini-batch below a few per cent, and
    8 MiB are minutes on a CPU. A plan has no more than a million shards.

    >>> default_shard_bytes(100 * MIB, 1) // KIB, default_shard_bytes(1, 4) // KIB
    (6400, 256)
    """
    even = total_bytes // (16 * max(1, parallelism))
    return max(min(max(even, 256 * KIB), 8 * MIB), -(-total_bytes // _MOST_SHARDS))


def make_plan(options: Options, *, parallelism: int = 1) -> Plan:
    """Finds the input files and cuts them into shards.

    Raises:
      UsageError: a pattern matches nothing, or a file's format is unknown.
    """
    root, files, unknown = find_files(options)
    if not files:
        some = f" ({len(unknown)} files of unknown kind there, e.g. {unknown[0]})" if unknown else ""
        known = ", ".join(sorted(extension for names in EXTENSIONS.values() for extension in names))
        raise UsageError(
            f"--input {' '.join(options.input)}: no file to read{some}; expected names that end in {known} "
            "(compressed ones too), or --input-format with a glob"
        )
    total = sum(file.size for file, _ in files)
    target = options.shard_bytes or default_shard_bytes(total, parallelism)
    if total // target > _MOST_SHARDS:
        raise UsageError(
            f"--shard-bytes {target}: gives {total // target:,} shards, expected at most {_MOST_SHARDS:,}; "
            "choose a larger size"
        )
    parquet = [file for file, kind in files if kind == "parquet"]
    if parquet:
        import pyarrow.parquet  # noqa: F401  here and not in a thread that ends: see the pin in pyproject.toml
    with ThreadPoolExecutor(16) as threads:  # their footers, one small read each
        cut = threads.map(lambda file: cut_file(file, "parquet", target), parquet)
        row_groups = {file.path: slices for file, slices in zip(parquet, cut, strict=True)}
    slices = [s for file, kind in files for s in row_groups.get(file.path) or cut_file(file, kind, target)]
    if options.limit is not None:
        slices = list(first_documents(slices, options))
    return Plan(root, tuple(pack(slices, target)), len(files), total, target, tuple(unknown))


def find_files(options: Options) -> tuple[str, list[tuple[FoundFile, str]], list[str]]:
    """Returns the input root, the files with their formats, and the files that no format claims."""
    found: dict[str, tuple[FoundFile, str]] = {}
    unknown: list[str] = []
    roots = []
    for pattern in options.input:
        root, files = list_files(pattern, exclude=options.output)
        roots.append(root)
        if not files:
            raise UsageError(
                f"--input {pattern}: matches no file; check the path (hidden files, names that begin with _ "
                "and the output folder are never read)"
            )
        # The root of a folder is the folder; that of a glob or a file lies above it.
        folder = root.rstrip("/") == full_path(pattern).rstrip("/")
        for file in files:
            kind = _format(file.path, options.input_format, folder=folder)
            if kind is not None:
                found[file.path] = (file, kind)
            elif folder:
                unknown.append(file.path)
            else:
                raise UsageError(
                    f"--input {pattern}: {file.path}: its name does not tell its format; give --input-format"
                )
    root = _common_root(roots)
    if len(set(roots)) > 1:
        found = {
            path: (file._replace(source=_relative(path, root)), kind) for path, (file, kind) in found.items()
        }
    return root, [found[path] for path in sorted(found)], unknown


def _format(path: str, wanted: str, *, folder: bool) -> str | None:
    if wanted == "auto":
        return format_of(path)
    # A folder may hold other things too; a glob or a file name says itself what is meant.
    if folder and not any(path.lower().endswith(e) for e in _endings(wanted)):
        return None
    return wanted


def _endings(wanted: str) -> tuple[str, ...]:
    plain = tuple(EXTENSIONS[wanted])
    if wanted == "lines":
        plain += (".txt", ".text", ".log", ".md")
    return plain + tuple(e + c for e in plain for c in (".gz", ".bz2", ".zst", ".xz"))


def _common_root(roots: Sequence[str]) -> str:
    if len(set(roots)) == 1:
        return roots[0]
    if all(is_local(root) for root in roots):
        return os.path.commonpath([os.path.abspath(root) for root in roots])
    return ""  # several file systems: sources are whole paths


def _relative(path: str, root: str) -> str:
    if not root:
        return path
    source = os.path.relpath(path, root).replace(os.sep, "/")
    return source.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def cut_file(file: FoundFile, kind: str, target: int) -> list[Slice]:
    """Cuts one file into slices of about `target` bytes; files that cannot be cut are one slice."""
    whole = Slice(file.path, file.source, kind, size=file.size, mtime=file.mtime, bytes=file.size)
    if kind == "parquet":
        return _cut_row_groups(whole, target)
    if not can_split(file.path, kind) or file.size <= target:
        return [whole]
    count = -(-file.size // target)
    cuts = [file.size * i // count for i in range(count + 1)]
    return [dataclasses.replace(whole, start=a, end=b, bytes=b - a) for a, b in itertools.pairwise(cuts)]


def _cut_row_groups(whole: Slice, target: int) -> list[Slice]:
    from transforms.formats.parquet import row_groups

    try:
        groups = row_groups(whole.path)
    except BadFileError:
        return [whole]  # its shard will fail and say why; the others go on
    slices, first, total = [], 0, 0
    for i, (_, size) in enumerate(groups):
        if i > first and total + size > target:
            slices.append(dataclasses.replace(whole, start=first, end=i, bytes=total))
            first, total = i, 0
        total += size
    if not first:
        return [whole]
    return [*slices, dataclasses.replace(whole, start=first, end=len(groups), bytes=total)]


def pack(slices: Iterable[Slice], target: int) -> list[Shard]:
    """Packs slices, in order, into shards of about `target` bytes."""
    shards: list[Shard] = []
    current: list[Slice] = []
    total = 0
    for piece in slices:
        if current and total + piece.bytes > target:
            shards.append(_shard(current))
            current, total = [], 0
        current.append(piece)
        total += piece.bytes
    if current:
        shards.append(_shard(current))
    repeated = [i for i, n in collections.Counter(s.shard_id for s in shards).items() if n > 1]
    if repeated:
        raise UsageError(f"two shards have the id {repeated[0]}: the same file is in the input twice")
    return shards


def _shard(slices: Sequence[Slice]) -> Shard:
    """Its id depends on its slices and nothing else."""
    sha = hashlib.sha256()
    for s in slices:
        sha.update(
            f"{s.source}\0{s.format}\0{s.start}\0{s.end}\0{s.limit}\n".encode("utf-8", "surrogateescape")
        )
    return Shard(sha.hexdigest()[:16], tuple(slices))


def first_documents(slices: Sequence[Slice], options: Options) -> Iterator[Slice]:
    """The slices that hold the first `limit` documents, the last one limited."""
    left = options.limit or 0
    for piece in slices:
        if left <= 0:
            return
        try:
            documents = sum(
                1 for _ in read_slice(dataclasses.replace(piece, limit=left), read_options(options))
            )
        except BadFileError:
            yield piece  # its shard will fail and say why
            continue
        yield dataclasses.replace(piece, limit=left) if documents == left else piece
        left -= documents


def read_options(options: Options) -> ReadOptions:
    return ReadOptions(
        text_field=options.text_field, id_field=options.id_field, keep_fields=options.keep_field
    )
