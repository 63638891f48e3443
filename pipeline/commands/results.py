"""Results for programs: `--json`."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any


def add_json(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def print_json(result: Any) -> None:
    """One JSON object on one line; of a dataclass its fields."""
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        result = dataclasses.asdict(result)
    text = json.dumps(result, ensure_ascii=False)
    print(text.encode("utf-8", "backslashreplace").decode(), flush=True)
