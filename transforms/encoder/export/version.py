"""What an exported model's bytes depend on besides its checkpoint."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path


def version_tag(about: str) -> str:
    """Changes with whatever can change a model's bytes: this package's sources, TensorFlow, and `about`."""
    digest = hashlib.sha256(about.encode())
    for name in ("tensorflow", "tensorflow-text"):
        digest.update(f"{name} {importlib.metadata.version(name)}\n".encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
