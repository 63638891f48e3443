"""Prints what a day takes from the days that are published: `reuse`, and `before`, which it is compared with.

    python deploy/airflow/published.py CURRENT OUTPUT [OPTION OF BEAM ...]

Exit code 0; 99, by which Airflow skips a task, where a later day than OUTPUT is current; 2 for a mistake.
"""

import datetime
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from pipeline.cluster.beam_options import parse
from transforms.errors import EmbedbeamError, UsageError
from transforms.output import layout, pointer
from transforms.storage.files import is_local, use_options

LATER = 99


def main(current: str, output: str, beam_arguments: list[str]) -> int:
    try:
        if not is_local(current):
            use_options(parse(beam_arguments))
        published = pointer.read(current)
        folders = [published.folder(one) for one in published.history]
        own = pointer.place(output)
        # Days may have been deleted since: none is needed by those after it.
        others = [one.path for one in folders if one.path != own and one.read(layout.PLAN, 1) is not None]
    except EmbedbeamError as e:
        print(f"embedbeam: error: {e}", file=sys.stderr)
        return 2 if isinstance(e, UsageError) else 1
    before = [path for path in others if not _is_later(path, own)]
    print(json.dumps({"reuse": (before or others or [None])[-1], "before": (before or [None])[-1]}))
    return LATER if folders and _is_later(folders[-1].path, own) else 0


def _is_later(path: str, than: str) -> bool:
    """Whether both are folders of days, and the first one of the later day."""
    try:
        day, other = (datetime.date.fromisoformat(one.rpartition("/")[2]) for one in (path, than))
    except ValueError:
        return False
    return day > other


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
