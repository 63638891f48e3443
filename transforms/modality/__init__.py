"""What a payload is: how it is decoded, refused, costed, split, fingerprinted and shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transforms.modality.text import Text


def get(name: str) -> Text:
    """The modality of a name: a class with the methods of Text."""
    from transforms.modality import text

    return {"text": text.Text}[name]()
