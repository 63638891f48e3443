"""What a payload is: how it is decoded, refused, costed, split, fingerprinted and shown."""

from __future__ import annotations

from transforms.modality.protocol import Count, Modality, Refusal

__all__ = ["Count", "Modality", "Refusal", "get"]


def get(name: str) -> Modality:
    """The modality of a name."""
    from transforms.modality.text import Text

    return {Text.name: Text}[name]()
