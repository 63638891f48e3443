"""Writes an encoder as a TF2 SavedModel in TF Hub's form, the same bytes every time."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from transforms.encoder.export.checkpoint import read_checkpoint
from transforms.errors import ModelError, UsageError

PRECISIONS = ("float32", "bfloat16", "float16")
# Where TF puts what belongs to a SavedModel and not to TF.
EXTRA = "assets.extra"


def export(checkpoint_dir: str | Path, model_dir: str | Path, *, precision: str = "float32") -> Path:
    """Turns a checkpoint folder into a SavedModel: strings or token ids in, embeddings out.

    Every model has the signature `embed_ids` (ids int32 [t], all texts' tokens one after the other, and
    lengths int32 [n] -> embedding float32 [n, dim]), the variable `max_tokens` (int32 scalar), and the file
    assets.extra/embedbeam.json (see docs/exporter.md).

    Where the tokenizer is BERT's, it lies in the graph: `tensorflow_hub.load(model_dir)` (after `import
    tensorflow_text`) gives an object that maps string [n] to float32 [n, dim], with `tokenize` (string [n] ->
    int32 [n, None]). Signatures: `serving_default` (text -> embedding), `count_tokens` (text -> tokens,
    before any cut), `tokenize` (text -> ids and lengths, as embed_ids takes them, and tokens), and one for
    each of the checkpoint's prompts. Other tokenizers lie beside it, in assets.extra/tokenizer.json.

    Args:
      checkpoint_dir: config.json, tokenizer, *.safetensors, and sentence-transformers' files if present.
      model_dir: where the SavedModel is to be; must not exist, or be empty. Appears whole or not at all.
      precision: type of the matrix products, one of PRECISIONS; embeddings are float32 always.

    Returns:
      model_dir.

    Raises:
      UsageError: the checkpoint is not of a supported kind, or model_dir is taken.
    """
    checkpoint_dir, model_dir = Path(checkpoint_dir).absolute(), Path(model_dir).absolute()
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r} is not supported, only {' or '.join(PRECISIONS)}")
    if model_dir.exists() and (not model_dir.is_dir() or any(model_dir.iterdir())):
        raise UsageError(f"{model_dir} exists already; choose a new folder, or delete it")
    read_checkpoint(checkpoint_dir)  # the user's mistakes are found here, before seconds of work
    model_dir.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{model_dir.name}-", dir=model_dir.parent))
    try:
        _build_in_fresh_process(checkpoint_dir, unfinished, precision)
        unfinished.chmod(0o755)  # mkdtemp's are private
        os.rename(unfinished, model_dir)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return model_dir


def _build_in_fresh_process(checkpoint_dir: Path, model_dir: Path, precision: str) -> None:
    """Function names in a SavedModel count up over a process's life; a fresh one starts at the same."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "PYTHONHASHSEED": "0",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    watched, held = os.pipe()  # `held` is closed when this process ends, however: that ends the other
    try:
        build = subprocess.run(
            [sys.executable, "-m", "transforms.encoder.export.build", checkpoint_dir, model_dir, precision],
            env=environment,
            stdin=watched,
            capture_output=True,
            text=True,
        )
    finally:
        os.close(held)
        os.close(watched)
    if build.returncode:
        reason = (build.stderr.strip() or f"exit status {build.returncode}").splitlines()[-1]
        if reason.startswith("transforms.errors.UsageError: "):
            raise UsageError(reason.partition(": ")[2])
        raise ModelError(f"{checkpoint_dir}: could not be exported: {reason}")


def read_description(model_dir: Path) -> dict[str, Any]:
    """The embedbeam.json of an exported model."""
    return json.loads((model_dir / EXTRA / "embedbeam.json").read_text(encoding="utf-8"))
