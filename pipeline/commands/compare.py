"""`embedbeam compare`: how far two models agree on the same documents."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

from pipeline.commands import Result, add_seed, add_source, number, open_source
from transforms.errors import UsageError

_ID, _TEXT = 40, 60  # characters of an id and of a text that a line shows


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", metavar="OLD", help="output folder of one model")
    add_source(parser, "NEW", "output folder of the other, over the same documents")
    parser.add_argument(
        "--sample", metavar="N", type=number, default=1000, help="documents that are compared (default: 1000)"
    )
    parser.add_argument(
        "--k", metavar="N", type=number, default=10, help="neighbours of a document (default: 10)"
    )
    parser.add_argument(
        "--pairs", metavar="FILE", help="known pairs: doc_id1, doc_id2 and perhaps score, as for evaluate"
    )
    parser.add_argument("--to", metavar="FILE", help="a Parquet file with a row for each sampled document")
    add_seed(parser, "the sample and the intervals")


def run(args: argparse.Namespace) -> Result:
    """Tell how far two outputs of the same documents agree: neighbours, ranks, cosines, known pairs.

    Raises:
      UsageError: one of them is no output, or has not finished; too few documents are in both.
    """
    from transforms.extras import check_extra

    check_extra("train", "scipy", what="compare")
    new = open_source(args, to_folder=False)
    old = open_source(argparse.Namespace(**vars(args) | {"output": args.old, "to": None}))
    from pipeline.compare import compare
    from pipeline.diff import differing

    record: dict[str, Any] = {
        name: {"output": one.folder.path, "model": one.job["model"], "dim": one.dim, "job": one.plan.job}
        for name, one in (("old", old), ("new", new))
    }
    record["differing"] = None
    with contextlib.suppress(UsageError):  # a plan of another version: its vectors are compared all the same
        record["differing"] = differing(old, new)
    asked = {"sample": args.sample, "k": args.k, "seed": args.seed, "pairs": args.pairs, "to": args.to}
    with args.screen.telling("starting") as told:
        record |= compare(old, new, **asked, told=told)
    return Result(record, _words(record))


def _words(record: dict[str, Any]) -> Iterator[str]:
    for name in ("old", "new"):
        one = record[name]
        yield f"{name.upper()}: {one['output']} ({one['model']}, {one['dim']} numbers)"
    if record["differing"] is not None:
        yield f"the jobs differ in {', '.join(record['differing']) or 'nothing that changes vectors'}"
    there = record["documents"]
    yield (
        f"{there['both']:,} documents are in both ({there['old']:,} in OLD, {there['new']:,} in NEW); "
        f"{record['sampled']:,} of them sampled"
    )
    yield f"{'':<34}{'mean':<26}{'5 %':>8}{'25 %':>8}{'50 %':>8}{'75 %':>8}{'95 %':>8}"
    overlap, cosine = record["overlap"], record["cosine"]
    yield _line(f"neighbour overlap at {record['k']}", _mean(overlap), overlap)
    if cosine is not None:
        yield _line("cosine of old and new vector", f"{cosine['mean']:.4f}", cosine)
    if (found := record["rank_correlation"]) is not None:
        yield f"{'rank correlation of similarities':<34}{found:.4f}"
    if pairs := record.get("pairs"):
        yield from _pairs(pairs)
    yield "worst documents:"
    yield f"  overlap{'' if cosine is None else '   cosine'}  doc_id"
    for one in record["worst"]:
        numbers = "".join(f"{one[name]:9.4f}" for name in ("overlap", "cosine") if name in one)
        words = " ".join(str(one.get("text", ""))[:1000].split())[:_TEXT]
        yield f"{numbers}  {one['doc_id'][:_ID]}  {words}".rstrip()
    if "rows" in record:
        yield f"wrote {record['rows']}"


def _pairs(pairs: dict[str, Any]) -> Iterator[str]:
    yield f"known pairs: {pairs['pairs']:,}; left out, since not in both outputs: {pairs['left_out']:,}"
    old, new = pairs["cosine"]["outputs"]
    yield f"  {'cosine in OLD':<32}{_mean(old)}"
    yield f"  {'cosine in NEW':<32}{_mean(new)}"
    yield _line("  change", _mean(pairs["cosine"]["difference"]), pairs["change"])
    if "spearman" in pairs:
        old, new = pairs["spearman"]["outputs"]
        yield f"  {'Spearman with the scores, OLD':<32}{_mean(old)}"
        yield f"  {'Spearman with the scores, NEW':<32}{_mean(new)}"
    yield "  changed most:"
    for one in pairs["most_changed"]:
        yield f"  {one['old']:9.4f} -> {one['new']:.4f}  {one['doc_id1'][:_ID]}  {one['doc_id2'][:_ID]}"


def _mean(one: dict[str, Any]) -> str:
    if one["low"] is None:
        return f"{one['value']:.4f}"
    return f"{one['value']:.4f} [{one['low']:.4f}, {one['high']:.4f}]"


def _line(name: str, mean: str, spread: dict[str, float]) -> str:
    return f"{name:<34}{mean:<26}" + "".join(f"{spread[f'p{one}']:8.3f}" for one in (5, 25, 50, 75, 95))
