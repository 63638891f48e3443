"""Kinds of payload. A new one is a file here, and a line in `_WHERE`."""

from __future__ import annotations

import importlib
from typing import Any

from transforms.modality.protocol import Modality

__all__ = ["NAMES", "Modality", "get"]

# Its class, by the name users know it by; imported when it is used.
_WHERE = {
    "text": "text.Text",
    "image": "image.Image",
    "tokens": "tokens.Tokens",
}
NAMES = tuple(_WHERE)


def get(name: str, **about: Any) -> Modality:
    """The modality of a name.

    Args:
      about: what it is told, as the fields of its dataclass.
    """
    module, _, cls = _WHERE[name].partition(".")
    made: Modality = getattr(importlib.import_module(f"transforms.modality.{module}"), cls)(**about)
    return made
