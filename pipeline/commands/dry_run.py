"""`embed --dry-run`: what a job would read; nothing is written and no model is loaded."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

from pipeline.cluster.preflight import prepare
from pipeline.commands import Result
from pipeline.options.options import Options
from pipeline.plan.fits import check_files, guessed
from pipeline.plan.kept import take_sample
from pipeline.plan.plan import Planned, make_plan
from pipeline.run.screen import Screen
from transforms import modality
from transforms.errors import UsageError
from transforms.formats import registry


def look_at_input(options: Options, screen: Screen, planned: Planned) -> Result:
    """Plans a job and samples its input.

    Args:
      planned: is shown the plan, as `pipeline.run.launch.run` does.

    Returns:
      The plan in numbers; `formats` has files of each format, the most common first. `documents` and `tokens`
      are estimated from `sampled` documents; `sampled_dead` records beside them are dead letters, the first
      of them for `dead_reason`. `not_split` are files that one worker each reads as a whole, `unknown` those
      in input folders that no format claims, and `kept` has the types of kept fields. `reuse` is as of
      `Reusing.foreseen`, where outputs are reused.

    Raises:
      UsageError: a mistake in the options or in the input.
    """
    with screen.doing("checking the options"):
        prepare(options)
    reusing = None
    if options.reuse:
        from pipeline.run.reuse import Reusing

        with screen.doing("opening what is reused"):
            reusing = Reusing(options.reuse, options.output)
    with screen.doing("listing the input"):
        of = modality.get(options.modality or guessed(options))
        plan = make_plan(options, of, earlier=None if reusing is None else reusing.shard_bytes)
        check_files(plan, of, options.near_duplicates)
        kept = planned(plan)
    with screen.doing("sampling the input"):
        try:
            sample = take_sample(plan, options, of)
        except UsageError as e:
            if options.modality is not None:
                raise
            advice = f"a dry run loads no model and takes documents for {of.name}; else say `modality`"
            raise UsageError(f"{e} ({advice})", argument=e.argument) from e
    slices = [piece for shard in plan.shards for piece in shard.slices]
    files = [
        (piece, registry.get(piece.format)) for piece in {piece.path: piece for piece in slices}.values()
    ]
    documents: float = len(files)
    if not all(kind.whole for _, kind in files):
        documents = sum(shard.bytes for shard in plan.shards) / max(1.0, sample.bytes_per_document)
    if options.limit is not None:
        documents = min(documents, options.limit)
    seen: dict[str, Any] = {
        "files": plan.files,
        "formats": dict(collections.Counter(piece.format for piece, _ in files).most_common()),
        "bytes": plan.input_bytes,
        "shards": len(plan.shards),
        "shard_bytes": plan.shard_bytes,
        "documents": round(documents),
        "tokens": round(documents * sample.tokens_per_document),
        "sampled": sample.documents,
        "not_split": [one.source for one, kind in files if not (kind.whole or kind.can_split(one.path))],
        "unknown": list(plan.unknown),
        "kept": dict(sample.kept),
        "sampled_dead": sample.letters,
        "dead_reason": sample.first_letter.reason if sample.first_letter else None,
    }
    if reusing is not None:
        with screen.doing("looking at what is reused"):
            seen["reuse"] = reusing.foreseen(options, plan, sample.kept if kept is None else kept)
    return Result(seen, plan_lines(seen))


def plan_lines(seen: dict[str, Any]) -> Iterator[str]:
    """The same in words."""
    formats = ", ".join(f"{n:,} {name}" for name, n in seen["formats"].items())
    yield f"files      {seen['files']:,} ({formats})"
    yield f"bytes      {seen['bytes']:,}"
    yield f"shards     {seen['shards']:,} of about {seen['shard_bytes']:,} bytes"
    yield f"documents  about {seen['documents']:,} (estimated from {seen['sampled']:,} sampled ones)"
    yield f"tokens     about {seen['tokens']:,} (estimated)"
    if whole := seen["not_split"]:
        yield f"not split  {len(whole):,} files are read by one worker each, e.g. {whole[0]}"
    if unknown := seen["unknown"]:
        yield f"not read   {len(unknown):,} files of unknown kind, e.g. {unknown[0]}"
    for name, kind in seen["kept"].items():
        yield f"kept       {name}: {kind}"
    if seen["sampled_dead"]:
        yield f"dead       {seen['sampled_dead']:,} of the sampled records, e.g. {seen['dead_reason']}"
    for one in seen.get("reuse", ()):
        yield f"reuse      {one['previous']}: {_reuse(one, seen['shards'])}"


def _reuse(one: dict[str, Any], shards: int) -> str:
    """What is known of one output that is reused."""
    if one["differing"]:
        return f"none of its vectors fit: it has {'; '.join(one['differing'])}"
    fits = "its vectors fit"
    if one["fits"] is None:
        fits = f"{fits} if its model is the same, which is known when the model is loaded"
    count = f"{one['shards']:,} of {shards:,} shards ({one['documents']:,} documents)"
    whole = f"{count} are the very same and taken over whole"
    lost = f"; {one['unreadable']:,} of its receipts cannot be read" if one["unreadable"] else ""
    return f"{fits}; {whole}, of the others the documents that it has{lost}"
