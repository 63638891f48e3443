"""`embedbeam cluster`: documents in groups."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from pipeline.commands import Result, add_seed, add_source, number, open_source
from pipeline.scan.arguments import add_scan
from transforms.output import layout


def _k(text: str) -> int | None:
    try:
        return None if text == "auto" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number, or auto") from None


def add(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument("--method", choices=("kmeans", "hdbscan"), default="kmeans", help="default: kmeans")
    parser.add_argument("--k", type=_k, metavar="N", help="how many clusters, or auto (default: auto)")
    parser.add_argument(
        "--passes",
        type=number,
        default=10,
        metavar="N",
        help="k-means reads all rows so often at most (default: 10)",
    )
    add_seed(parser, "samples and starts")
    parser.add_argument("--to", metavar="FOLDER", help=f"for the labels (default: OUTPUT/{layout.CLUSTERS})")
    add_scan(parser)


def run(args: argparse.Namespace) -> Result:
    """Group the documents, and say what each group is about."""
    from transforms.extras import check_extra

    check_extra("explore", "sklearn", what="cluster")
    output = open_source(args)
    from pipeline.clustering.cluster import cluster

    record = cluster(output, args.to or output.folder.join(layout.CLUSTERS), args)
    return Result(record, _lines(record))


def _lines(record: dict[str, Any]) -> Iterator[str]:
    clusters, noise = record["clusters"], record["noise"]
    of_none = f", {noise:,} are noise" if record["method"] == "hdbscan" else ""
    yield f"{record['rows']:,} rows in {len(clusters)} clusters{of_none}; labels in {record['labels']}"
    if not clusters:
        yield "no region is denser than the rest: try --method kmeans"
        return
    yield f"{'cluster':>7} {'rows':>9} {'cohesion':>8}  words; the document nearest to the centre"
    for one in clusters:
        cohesion = "-" if one["cohesion"] is None else f"{one['cohesion']:.3f}"
        yield f"{one['cluster']:>7} {one['rows']:>9,} {cohesion:>8}  {', '.join(one['words'])}"
        for example in one["examples"][:1]:
            yield f"{'':>27} {example['doc_id']}: {example['text']}".rstrip(": ")
