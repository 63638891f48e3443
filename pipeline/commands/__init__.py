"""The sub-commands, a file each: HELP says what it does, `add` its arguments, and `run` does it.

`run` gets what was parsed, with `beam_args` (options that are not ours), `screen`, which shows what is being
done, and `typed` (the whole command).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any, NamedTuple

NAMES = ("embed", "status", "verify", "finish", "export", "inspect", "completion")


class Result(NamedTuple):
    """What a command found.

    Attributes:
      record: for --json: a dataclass or a dict.
      words: the same in lines for people.
      code: the exit code.
    """

    record: Any
    words: Iterable[str]
    code: int = 0


def add_json(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
