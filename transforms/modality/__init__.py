"""Kinds of payload. A new one is a file here, and a line in `_WHERE`."""

from __future__ import annotations

import importlib
from typing import Any

from transforms.modality.protocol import Modality

__all__ = ["NAMES", "Modality", "get", "in_seconds"]

# Its class, by the name users know it by; imported when it is used.
_WHERE = {
    "text": "text.Text",
    "image": "image.Image",
    "audio": "audio.Audio",
    "tabular": "tabular.Tabular",
    "tokens": "tokens.Tokens",
}
NAMES = tuple(_WHERE)


def in_seconds(name: str | None) -> bool:
    """Whether the spans of chunks are told in seconds, and so are floats; quick, for readers of outputs."""
    return name == "audio"


def get(name: str, **about: Any) -> Modality:
    """The modality of a name.

    Args:
      about: what it is told, as the fields of its dataclass.
    """
    module, _, cls = _WHERE[name].partition(".")
    made: Modality = getattr(importlib.import_module(f"transforms.modality.{module}"), cls)(**about)
    return made
