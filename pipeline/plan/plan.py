"""From input patterns to shards, the same on every machine."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from pipeline.options.options import InputOptions, Options
from transforms.elements import Shard, Slice
from transforms.errors import BadFileError, UsageError
from transforms.formats import registry
from transforms.formats.base import ReadOptions, packed
from transforms.formats.compression import SUFFIXES
from transforms.formats.slices import read_slice
from transforms.modality import Modality
from transforms.modality.text import TEXT
from transforms.storage.files import full_path, is_local, local_path
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


# Is shown a new job's plan; gives the types of the kept fields, or None where a sample of the input tells.
Planned = Callable[[Plan], tuple[tuple[str, str], ...] | None]


def default_shard_bytes(total_bytes: int, parallelism: int) -> int:
    """Input bytes of a shard: small enough that a kill costs minutes and workers finish together.

    Sixteen shards a worker even out, 64 KiB (sixteen mini-batches of a CPU) keep what a shard costs, its one
    short mini-batch and its commit, below a few per cent, and 8 MiB are minutes on a CPU. A plan has no more
    than a million shards.

    >>> default_shard_bytes(100 * MIB, 1) // KIB, default_shard_bytes(1, 4) // KIB
    (6400, 64)
    """
    even = total_bytes // (16 * max(1, parallelism))
    return max(min(max(even, 64 * KIB), 8 * MIB), -(-total_bytes // _MOST_SHARDS))


def make_plan(
    options: Options, of: Modality = TEXT, *, parallelism: int = 1, earlier: int | None = None
) -> Plan:
    """Finds the input files and cuts them into shards.

    Args:
      of: what documents are.
      parallelism: how many workers share them.
      earlier: bytes of a shard of an output that is reused: files that have not changed have the same shards
        then. Taken where it is not more than four times more or less than what would be chosen.

    Raises:
      UsageError: a pattern matches nothing, or a file's format is unknown.
    """
    root, files, unknown = find_files(options, of.name)
    if not files:
        raise _nothing(options, unknown, of.name)
    total = sum(file.size for file in files)
    target = options.shard_bytes or default_shard_bytes(total, parallelism)
    if options.shard_bytes is None and earlier and target / 4 <= earlier <= target * 4:
        target = earlier
    if total // target > _MOST_SHARDS:
        raise UsageError(
            f"--shard-bytes {target}: gives {total // target:,} shards, expected at most {_MOST_SHARDS:,}; "
            "choose a larger size"
        )
    slices = cut_files(files, target)
    if options.limit is not None:
        slices = list(first_documents(slices, options, of))
    return Plan(root, tuple(pack(slices, target)), len(files), total, target, tuple(unknown))


def find_files(options: Options, of: str | None) -> tuple[str, list[Slice], list[str]]:
    """Returns the input root, the files as slices that are not cut, and the files that no format claims.

    Args:
      of: the modality of what they hold; None where it is not known.
    """
    found: dict[str, Slice] = {}
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
            fits = kind is None or of is None or registry.get(kind).holds in ("", of)
            if not fits and not (folder and options.input_format == "auto"):
                raise UsageError(
                    f"--input {pattern}: {file.path}: {kind} files hold no documents of --modality {of}, "
                    "which is the model's or your choice; name other files"
                )
            if kind is not None and fits:
                path, source, size, mtime = file
                found[path] = Slice(path, source, kind, size=size, mtime=mtime, bytes=size)
            elif folder:
                unknown.append(file.path)
            else:
                raise UsageError(
                    f"--input {pattern}: {file.path}: its name does not tell its format; give --input-format"
                )
    for kind in {file.format for file in found.values()}:
        registry.require(kind)
    root = _common_root(roots)
    if len(set(roots)) > 1:
        found = {p: dataclasses.replace(file, source=_relative(p, root)) for p, file in found.items()}
    return root, _once([found[path] for path in sorted(found)]), unknown


def _nothing(options: Options, unknown: Sequence[str], of: str) -> UsageError:
    """Why no file can be read: those that are there hold documents of another kind, or nobody knows what."""
    found = f"--input {' '.join(options.input)}: no file to read"
    for path in unknown:
        if kind := registry.format_of(path):
            return UsageError(
                f"{found} for --modality {of}, which is the model's or your choice; {len(unknown):,} files "
                f"there hold other documents, e.g. {path} ({registry.get(kind).holds}): give a --model of "
                "these"
            )
    some = f" ({len(unknown)} files of unknown kind there, e.g. {unknown[0]})" if unknown else ""
    known = ", ".join(sorted({names[0] for names in registry.EXTENSIONS.values()}))
    return UsageError(f"{found}{some}; expected names that end in {known} or the like, or --input-format")


def _once(files: list[Slice]) -> list[Slice]:
    """Local files that are one, reached by two links, are read once: under the first of their paths."""
    alike = collections.Counter((file.size, file.mtime) for file in files)
    seen: set[tuple[int, int]] = set()
    once = []
    for file in files:
        if alike[file.size, file.mtime] > 1 and is_local(file.path):
            state = os.stat(local_path(file.path))
            if (state.st_dev, state.st_ino) in seen:
                continue
            seen.add((state.st_dev, state.st_ino))
        once.append(file)
    return once


def _format(path: str, wanted: str, *, folder: bool) -> str | None:
    if wanted == "auto":
        return registry.format_of(path)
    one = registry.get(wanted)
    endings = tuple(e + codec for e in (*one.extensions, *one.aliases) for codec in ("", *SUFFIXES))
    # A folder may hold other things too; a glob or a file name says itself what is meant.
    return wanted if not folder or path.lower().endswith(endings) else None


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


def cut_files(files: Sequence[Slice], target: int) -> list[Slice]:
    """Cuts files of any formats into slices of about `target` bytes, as each format allows, in order."""
    cut: dict[str, list[Slice]] = {}
    for kind in {file.format for file in files}:
        of_kind = [file for file in files if file.format == kind]
        slices = registry.get(kind).cut(of_kind, target)
        cut |= {file.path: found for file, found in zip(of_kind, slices, strict=True)}
    return [piece for file in files for piece in cut[file.path]]


def pack(slices: Iterable[Slice], target: int) -> list[Shard]:
    """Packs slices, in order, into shards of about `target` bytes."""
    shards = [_shard(some) for some in packed(slices, lambda piece: piece.bytes, most_bytes=target)]
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


def first_documents(slices: Sequence[Slice], options: Options, of: Modality) -> Iterator[Slice]:
    """The slices that hold the first `limit` documents, the last one limited."""
    left = options.limit or 0
    for piece in slices:
        if left <= 0:
            return
        try:
            found = read_slice(dataclasses.replace(piece, limit=left), read_options(options, of))
            documents = sum(len(block.positions) for block in found)
        except BadFileError:
            yield piece  # its shard will fail and say why
            continue
        yield dataclasses.replace(piece, limit=left) if documents == left else piece
        left -= documents


def read_options(options: InputOptions, of: Modality) -> ReadOptions:
    """What is taken from records.

    Args:
      of: what documents are.
    """
    fields = of.fields or (options.text_field or of.field,)
    return ReadOptions(fields, of.kind, options.id_field, options.keep_field)
