"""The main job, as a Python call and as a plain file that schedulers start.

    python pipeline/embed.py --input='docs/*.jsonl' --output=out --runner=DirectRunner

Options that embedbeam does not know are handed to Beam.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

if __name__ == "__main__":
    # A file started by its path has its own folder first on the path, where this package's modules would
    # stand in for others of the same name.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from pipeline.options.options import Options, OptionsDict

if TYPE_CHECKING:
    from pipeline.run.finish import Manifest


def embed(
    *,
    input: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    **options: Unpack[OptionsDict],
) -> Manifest | None:
    """Embeds documents, or goes on with a job where it was; the options are those of the command line.

    Args:
      input: path, glob, folder or URL, or several.
      output: folder for the vectors.
      **options: see `embedbeam embed --help`, with _ for -.

    Returns:
      The manifest: counts, model, dim, and where the output lies. None from Dataflow, which nobody waits for.

    Raises:
      UsageError: a mistake found before anything started.
      EmbedbeamError: the job ran and something is wrong.
    """
    from pipeline.run.launch import run

    return run(Options(input=input, output=output, **options))  # type: ignore[arg-type]  # Options normalises


if __name__ == "__main__":
    from pipeline.cli import embed_file

    sys.exit(embed_file(sys.argv[1:]))
