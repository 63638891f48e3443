"""`embed --dry-run`: what a job would read; nothing is written and no model is loaded."""

from __future__ import annotations

import collections
import dataclasses

from pipeline.cluster.preflight import prepare
from pipeline.options.options import Options
from pipeline.plan.kept import take_sample
from pipeline.plan.plan import make_plan
from pipeline.run.screen import Screen
from transforms.formats import registry


@dataclasses.dataclass(frozen=True)
class InputSeen:
    """What a job would read.

    Attributes:
      files, bytes, shards, shard_bytes: of the plan.
      formats: files of each format, the most common first.
      documents, tokens: estimated from the sampled ones.
      sampled: documents that were read for it, and (sampled_dead) records that are dead letters,
        the first of them for dead_reason.
      not_split: files that one worker each reads as a whole.
      unknown: files in input folders that no format claims.
      kept: kept fields and their types.
    """

    files: int
    formats: dict[str, int]
    bytes: int
    shards: int
    shard_bytes: int
    documents: int
    tokens: int
    sampled: int
    not_split: list[str]
    unknown: list[str]
    kept: dict[str, str]
    sampled_dead: int
    dead_reason: str | None


def look_at_input(options: Options, screen: Screen) -> InputSeen:
    """Plans a job and samples its input.

    Raises:
      UsageError: a mistake in the options or in the input.
    """
    with screen.doing("checking the options"):
        prepare(options)
    with screen.doing("listing the input"):
        plan = make_plan(options)
    with screen.doing("sampling the input"):
        sample = take_sample(plan, options)
    slices = [piece for shard in plan.shards for piece in shard.slices]
    files = {piece.path: piece for piece in slices}
    formats = collections.Counter(piece.format for piece in files.values())
    planned = sum(piece.bytes for piece in slices)
    documents = (
        len(files)
        if all(registry.get(name).whole for name in formats)
        else planned / max(1.0, sample.bytes_per_document)
    )
    if options.limit is not None:
        documents = min(documents, options.limit)
    known = ((piece, registry.get(piece.format)) for piece in files.values())
    whole = [piece.source for piece, kind in known if not kind.whole and not kind.can_split(piece.path)]
    return InputSeen(
        files=plan.files,
        formats=dict(formats.most_common()),
        bytes=plan.input_bytes,
        shards=len(plan.shards),
        shard_bytes=plan.shard_bytes,
        documents=round(documents),
        tokens=round(documents * sample.tokens_per_document),
        sampled=sample.documents,
        not_split=whole,
        unknown=list(plan.unknown),
        kept=dict(sample.kept),
        sampled_dead=sample.letters,
        dead_reason=sample.first_letter.reason if sample.first_letter else None,
    )


def print_plan(seen: InputSeen) -> None:
    """The same in words."""
    formats = ", ".join(f"{n:,} {name}" for name, n in seen.formats.items())
    print(f"files      {seen.files:,} ({formats})")
    print(f"bytes      {seen.bytes:,}")
    print(f"shards     {seen.shards:,} of about {seen.shard_bytes:,} bytes")
    print(f"documents  about {seen.documents:,} (estimated from {seen.sampled:,} sampled ones)")
    print(f"tokens     about {seen.tokens:,} (estimated)")
    if seen.not_split:
        count, first = len(seen.not_split), seen.not_split[0]
        print(f"not split  {count:,} files are read by one worker each, e.g. {first}")
    if seen.unknown:
        print(f"not read   {len(seen.unknown):,} files of unknown kind, e.g. {seen.unknown[0]}")
    for name, kind in seen.kept.items():
        print(f"kept       {name}: {kind}")
    if seen.sampled_dead:
        print(f"dead       {seen.sampled_dead:,} of the sampled records, e.g. {seen.dead_reason}")
