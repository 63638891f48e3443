"""Tells by its exit code whether there is anything to embed: 0 yes, 3 not yet, 2 a mistake.

    python deploy/airflow/input_there.py INPUT [OPTION OF BEAM ...]

It looks as the job does (`transforms.storage.listing`), so it finds just what the job would, locally and
remotely.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from pipeline.cluster.beam_options import parse
from transforms.errors import UsageError
from transforms.storage.files import is_local, use_options
from transforms.storage.listing import list_files

NOT_YET = 3


def main(pattern: str, beam_arguments: list[str]) -> int:
    try:
        if not is_local(pattern):
            use_options(parse(beam_arguments))
        _, files = list_files(pattern)
    except UsageError as e:
        print(f"embedbeam: error: --input {pattern}: {e}")
        return 2
    print(f"{pattern}: {len(files):,} files" if files else f"{pattern}: nothing there yet")
    return 0 if files else NOT_YET


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
