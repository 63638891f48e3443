"""`embedbeam evaluate`: is a model good for these documents?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from pipeline.commands import Result, add_seed, add_source, number, open_source
from transforms.errors import UsageError


def add(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument("other", nargs="?", metavar="OTHER", help="output of another model, to compare")
    parser.add_argument("--queries", metavar="FILE", help="retrieval: query, doc_id and perhaps relevance")
    parser.add_argument(
        "--pairs", metavar="FILE", help="similarity: doc_id1, doc_id2, score; or text1, text2, score"
    )
    parser.add_argument("--label", metavar="FIELD", help="classes: a kept field")
    parser.add_argument(
        "--k", type=number, default=10, metavar="N", help="documents of a ranking (default: 10)"
    )
    add_seed(parser, "samples, folds and intervals")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="HANDLE",
        help="where OUTPUT's model lies now; then OTHER's",
    )


def run(args: argparse.Namespace) -> Result:
    """Tell how well vectors find, compare and classify documents, with intervals."""
    from transforms.extras import check_extra

    if args.queries is None and args.pairs is None and args.label is None:
        raise UsageError("nothing to evaluate: give --queries FILE, --pairs FILE or --label FIELD")
    check_extra("train", "sklearn", what="evaluate")
    check_extra("train", "pytrec_eval", what="evaluate")
    paths = [args.output, *([args.other] if args.other is not None else [])]
    outputs = [open_source(argparse.Namespace(**vars(args) | {"output": path})) for path in paths]
    if len(args.model) > len(paths):
        raise UsageError(
            f"--model is given {len(args.model)} times, for {len(paths)} outputs", argument="model"
        )
    from pipeline.evaluation.intervals import CONFIDENCE, RESAMPLES
    from pipeline.evaluation.labels import evaluate_labels
    from pipeline.evaluation.pairs import evaluate_pairs
    from pipeline.evaluation.retrieval import evaluate_retrieval

    about = [{"output": o.folder.path, "model": o.job["model"], "job": o.plan.job} for o in outputs]
    record: dict[str, Any] = {"outputs": about, "seed": args.seed}
    record |= {"confidence": CONFIDENCE, "resamples": RESAMPLES}
    asked: dict[str, Any] = {"models": [*args.model, *[None] * (len(paths) - len(args.model))]}
    common: dict[str, Any] = {"seed": args.seed, "screen": args.screen}
    if args.label is not None:
        record["labels"] = evaluate_labels(outputs, args.label, **common)
    if args.pairs is not None:
        record["pairs"] = evaluate_pairs(outputs, args.pairs, **asked, **common)
    if args.queries is not None:
        record["retrieval"] = evaluate_retrieval(outputs, args.queries, k=args.k, **asked, **common)
    return Result(record, _lines(record))


def _lines(record: dict[str, Any]) -> Iterator[str]:
    names = [f"{one['output']} ({one['model']})" for one in record["outputs"]]
    two = len(names) == 2
    yield from (f"{letter}: {name}" for letter, name in zip("AB", names, strict=False))
    for what, said in (
        (
            "retrieval",
            "{queries:,} queries; {queries_left_out:,} left out, {unknown_ids:,} ids are not there",
        ),
        ("pairs", "{pairs:,} pairs; {pairs_left_out:,} left out"),
        (
            "labels",
            "{field}: {documents:,} documents of {classes:,} classes, the largest {largest_class:.1%}; "
            "{classes_left_out:,} small classes and {without_label:,} documents without one left out",
        ),
    ):
        if found := record.get(what):
            yield f"{what}: {said.format(**found)}"
            yield f"  {'':<22}{'A':<24}{'B':<24}{'B - A' if two else ''}".replace(
                "B ", "  ", not two
            ).rstrip()
            for name, values in found["metrics"].items():
                cells = [*values["outputs"], *([values["difference"]] if two else [])]
                yield f"  {name:<22}{''.join(f'{_cell(one):<24}' for one in cells)}".rstrip()
    yield f"in brackets: {record['confidence']:.0%} bootstrap intervals, {record['resamples']:,} resamples"


def _cell(one: dict[str, float | None]) -> str:
    if one["low"] is None:
        return f"{one['value']:.4f}"
    return f"{one['value']:.4f} [{one['low']:.4f}, {one['high']:.4f}]"
