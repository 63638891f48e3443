"""`--dry-run`: the plan, in words; nothing is written and no model is loaded."""

from __future__ import annotations

import collections

from pipeline.cluster.preflight import prepare
from pipeline.options.options import Options
from pipeline.plan.kept import kept_types, take_sample
from pipeline.plan.plan import make_plan
from transforms.formats import registry


def print_plan(options: Options) -> int:
    """Prints what a job would read. Returns the exit code."""
    prepare(options)
    plan = make_plan(options)
    sample = take_sample(plan, options)
    kept = kept_types(plan, sample, options)
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
    print(f"files      {plan.files:,} ({', '.join(f'{n:,} {name}' for name, n in formats.most_common())})")
    print(f"bytes      {plan.input_bytes:,}")
    print(f"shards     {len(plan.shards):,} of about {plan.shard_bytes:,} bytes")
    print(f"documents  about {round(documents):,} (estimated from {sample.documents:,} sampled ones)")
    print(f"tokens     about {round(documents * sample.tokens_per_document):,} (estimated)")
    known = ((piece, registry.get(piece.format)) for piece in files.values())
    whole = [piece.source for piece, kind in known if not kind.whole and not kind.can_split(piece.path)]
    if whole:
        print(f"not split  {len(whole):,} files are read by one worker each, e.g. {whole[0]}")
    if plan.unknown:
        print(f"not read   {len(plan.unknown):,} files of unknown kind, e.g. {plan.unknown[0]}")
    for name, kind in kept:
        print(f"kept       {name}: {kind}")
    if sample.first_letter:
        print(f"dead       {sample.letters:,} of the sampled records, e.g. {sample.first_letter.reason}")
    return 0
