"""The steps of the way of the data: read, chunk, batch, embed, merge, write.

For a Beam pipeline of your own: `documents | EmbedDocuments(model)`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transforms.elements import DeadLetter, Document, Embedding
    from transforms.embed_documents import EmbedDocuments

__all__ = ["DeadLetter", "Document", "EmbedDocuments", "Embedding"]


def __getattr__(name: str) -> Any:
    """Loads Beam only when it is asked for, so that commands which need none start at once."""
    if name == "EmbedDocuments":
        from transforms.embed_documents import EmbedDocuments

        return EmbedDocuments
    if name in __all__:
        from transforms import elements

        return getattr(elements, name)
    raise AttributeError(f"module 'transforms' has no attribute {name!r}")
