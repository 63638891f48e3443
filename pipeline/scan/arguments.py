"""The arguments that say where a scan runs."""

from __future__ import annotations

import argparse


def add_scan(parser: argparse.ArgumentParser) -> None:
    """The arguments that say where a scan of all rows runs."""
    group = parser.add_argument_group("where it runs")
    group.add_argument(
        "--runner", default="DirectRunner", help="Beam runner; its own options pass through (default: here)"
    )
    group.add_argument(
        "--shared-filesystem",
        action="store_true",
        help="local paths are mounted under the same names on every worker machine",
    )
