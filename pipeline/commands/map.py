"""`embedbeam map`: the vectors in two or three dimensions."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from pipeline.commands import Result, add_seed, add_source, open_source


def add(parser: argparse.ArgumentParser) -> None:
    from pipeline.map.projection import METHODS

    add_source(parser)
    parser.add_argument("--method", choices=METHODS, default="umap", help="how it is made (umap)")
    parser.add_argument("--dim", type=int, choices=(2, 3), default=2, help="dimensions of the map (2)")
    parser.add_argument("--color", metavar="FIELD", help="colour points by a kept field (the cluster)")
    parser.add_argument(
        "--sample", metavar="N|all", default="10000", help="rows it is fitted on and that are drawn (10000)"
    )
    parser.add_argument("--clusters", metavar="N", type=int, default=10, help="regions to name (10)")
    add_seed(parser, "all that is drawn")
    parser.add_argument("--to", metavar="DIR", help="write there (default: OUTPUT/_map)")


def run(args: argparse.Namespace) -> Result:
    """Project the vectors by UMAP, t-SNE or PCA: places as Parquet, a picture, a page.

    Raises:
      UsageError: no such field, too few rows, a package is missing, the output is not finished.
    """
    from pipeline.map.write import MapOptions, make_map
    from transforms.errors import UsageError

    if args.sample != "all" and not (args.sample.isdecimal() and int(args.sample) > 1):
        raise UsageError(f"--sample {args.sample}: expected a number above 1, or all", argument="sample")
    if not 1 <= args.clusters <= 100:
        raise UsageError(f"--clusters {args.clusters}: expected 1 to 100", argument="clusters")
    options = MapOptions(
        method=args.method,
        dim=args.dim,
        color=args.color,
        sample=None if args.sample == "all" else int(args.sample),
        clusters=args.clusters,
        seed=args.seed,
        to=args.to,
    )
    output = open_source(args)
    with args.screen.telling("starting") as told:
        made = make_map(output, options, told)
    return Result(made, _words(made))


def _words(made: dict[str, Any]) -> Iterator[str]:
    words = made["words_from"]
    source = "their texts" if words == ["text"] else f"{' and '.join(words)}, since no text is kept"
    without = made["without_place"]
    hold = "row holds NaN or infinity and has" if without == 1 else "rows hold NaN or infinity and have"
    places = f"{without:,} {hold} no place" if without else "every row has a place"
    yield f"fitted on {made['fitted_on']:,} of {made['rows']:,} rows; {places}"
    yield f"clusters are named by words of {source}:"
    for cluster in made["clusters"]:
        yield f"  {cluster['rows_of_sample']:>7,}  {cluster['words']}"
    for kind in ("parquet", "png", "html"):
        yield made[kind]
    if made["pictured"] < made["rows"]:
        yield f"the picture and the page show {made['pictured']:,} of the rows"
