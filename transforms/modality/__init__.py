"""Kinds of payload. A new one is a file here, and a line in `get`."""

from __future__ import annotations

from transforms.modality.protocol import Modality

__all__ = ["Modality", "get"]


def get(name: str) -> Modality:
    """The modality of a name."""
    from transforms.modality.text import Text

    return {"text": Text}[name]()
