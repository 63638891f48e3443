"""The embedding job: plan, run, resume, verify.

from pipeline import embed
result = embed(input="docs/*.jsonl", output="out")
"""

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

_PROGRAM = os.path.basename(sys.argv[0]) if sys.argv else ""
if _PROGRAM == "embedbeam" or (_PROGRAM == "-m" and "pipeline" in sys.orig_argv):
    # The command itself: Ctrl-C in the middle of its imports shall give no traceback.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from pipeline.embed import embed  # noqa: E402

if TYPE_CHECKING:
    from pipeline.build import build_pipeline
    from pipeline.options.options import Options
    from transforms.output.manifest import Manifest

__all__ = ["Manifest", "Options", "build_pipeline", "embed", "feature_spec"]


def feature_spec(output: str) -> dict[str, Any]:
    """The `features` that tf.io.parse_example needs for a TFRecord output folder.

    Raises:
      ValueError: the folder holds no finished TFRecord job.
    """
    from transforms.output import manifest as manifests
    from transforms.output.folder import Folder
    from transforms.output.pointer import followed
    from transforms.output.sinks.tfrecord import to_tf

    manifest = manifests.read(followed(Folder(output)))
    if manifest is None or manifest.feature_spec is None:
        raise ValueError(f"{output}: expected a finished embedbeam job of `output_format` tfrecord")
    return to_tf(manifest.feature_spec)


def __getattr__(name: str) -> Any:
    """Loads the rest only when it is asked for: Beam takes seconds to import."""
    modules = {"build_pipeline": "build", "Manifest": "run.finish", "Options": "options.options"}
    if name in modules:
        import importlib

        return getattr(importlib.import_module(f"pipeline.{modules[name]}"), name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
