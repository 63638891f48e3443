"""From an output to its clusters: found, given to every row, described, and written beside the vectors."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pipeline.clustering.centres import GRID, Found, check_k, hdbscan, kmeans, silhouettes
from pipeline.clustering.describe import describe
from pipeline.scan.run import run_scan
from pipeline.version import installed
from transforms.errors import UsageError
from transforms.output.folder import Folder
from transforms.output.reader import Output

CLUSTERS = "_clusters.json"  # in the folder of the labels, where readers of Parquet skip it


def cluster(output: Output, target: str, args: argparse.Namespace) -> dict[str, Any]:
    """Labels in Parquet, a file for each part, and `_clusters.json`, whose record is returned.

    Args:
      target: folder that gets them.
      args: those of the command.

    Raises:
      UsageError: there cannot be such clusters, or the folder holds something else.
    """
    tried: dict[int, float] = {}
    if args.method == "hdbscan":
        if args.k is not None:
            raise UsageError("k is for kmeans; hdbscan finds how many there are", argument="k")
        with args.screen.doing("looking for dense regions"):
            found = hdbscan(output, seed=args.seed)
    else:
        found, tried = _kmeans(output, args)
    Folder(target).delete(CLUSTERS)  # it would stand beside other labels, if this run were killed
    results = run_scan(output, target, found.assign, args)
    with args.screen.doing("describing the clusters"):
        described = describe(output, found.assign, results, args.seed)
    record = {
        "output": output.folder.path,
        "labels": results.folder.path,
        "job": output.plan.job,
        "scan": results.identity,
        **found.assign.asked,
        "sampled": found.sampled,
        "passes_made": found.passes,
        "moved": found.moved,
        "silhouettes": tried,
        **described,
        "versions": {name: installed(name) for name in ("embedbeam", "scikit-learn", "numpy")},
    }
    data = json.dumps(record, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace")
    results.folder.write(CLUSTERS, data)
    return record


def _kmeans(output: Output, args: argparse.Namespace) -> tuple[Found, dict[int, float]]:
    """The clusters, and the silhouettes that chose how many."""
    tried: dict[int, float] = {}
    k, screen = args.k, args.screen
    if k is None:
        now = GRID[0]

        def trial(one: int) -> None:
            nonlocal now
            now = one

        with screen.doing(lambda: f"choosing k: {now} of {GRID[0]} to {GRID[-1]}"):
            tried, sampled = silhouettes(output, args.seed, trial)
        k = max(tried, key=lambda one: tried[one])
        best = ", ".join(f"{one} {tried[one]:.3f}" for one in sorted(tried, key=lambda one: -tried[one])[:4])
        screen.say(f"k {k} of {len(tried)} tried on {sampled:,} rows; best mean silhouettes: {best}")
    check_k(k, output)
    at, rows = 0, 0

    def read(one: int, so_far: int) -> None:
        nonlocal at, rows
        at, rows = one, so_far

    def line() -> str:
        said = f"pass {at}: {rows:,} of {output.count:,} rows" if at else "start on a sample"
        return f"k-means, {k} clusters, {said}"

    with screen.doing(line):
        return kmeans(output, k, seed=args.seed, passes=args.passes, told=read), tried
