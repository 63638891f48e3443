"""The main job, as a Python call and as a plain file that schedulers start.

    python pipeline/embed.py --input='docs/*.jsonl' --output=out --runner=DirectRunner

Options that embedbeam does not know are handed to Beam.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if __name__ == "__main__":
    # A file started by its path has its own folder first on the path, where this package's modules would
    # stand in for others of the same name.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from pipeline.options.options import Options

if TYPE_CHECKING:
    from transforms.output.manifest import Manifest


_P = ParamSpec("_P")
_R = TypeVar("_R")


def _takes(options: Callable[_P, Options]) -> Callable[[Callable[..., _R]], Callable[_P, _R]]:
    """Gives a function the parameters of Options, for type checkers and for help()."""

    def give(function: Callable[..., _R]) -> Callable[_P, _R]:
        function.__signature__ = inspect.signature(options)  # type: ignore[attr-defined]
        return function

    return give


@_takes(Options)
def embed(**options: Any) -> Manifest | None:
    """Embeds documents, or goes on with a job where it was.

    The options are those of the command line, with _ for -: see docs/options.md. `input` may be one path or
    several.

    Returns:
      The manifest: counts, model, dim, and where the output lies. None from Dataflow, which nobody waits for.

    Raises:
      UsageError: a mistake found before anything started; its `argument` names the option.
      EmbedbeamError: the job ran and something is wrong.
    """
    made = Options(**options)
    from pipeline.run.launch import run
    from pipeline.run.progress import Progress
    from pipeline.run.screen import Screen

    with contextlib.closing(Screen(quiet=made.quiet)) as screen, screen:
        return run(made, screen, Progress())


if __name__ == "__main__":
    from pipeline.cli import embed_file

    sys.exit(embed_file(sys.argv[1:]))
