"""The front door for Python: names, and no logic.

import embedbeam

manifest = embedbeam.embed(input="docs/*.jsonl", output="out")
vectors = embedbeam.open_output("out")
mini_batches = embedbeam.batches("out", batch_size=256, columns=["label"], shuffle=True)
documents | embedbeam.EmbedDocuments("minilm")  # in a Beam pipeline of your own
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.embed import embed as embed
    from pipeline.evaluation.mteb_encoder import MtebEncoder as MtebEncoder
    from pipeline.options.options import Options as Options
    from pipeline.run.finish import Manifest as Manifest
    from pipeline.training.batches import batches as batches
    from transforms.elements import DeadLetter as DeadLetter
    from transforms.elements import Document as Document
    from transforms.elements import Embedding as Embedding
    from transforms.embed_documents import EmbedDocuments as EmbedDocuments
    from transforms.errors import EmbedbeamError as EmbedbeamError
    from transforms.errors import UsageError as UsageError
    from transforms.output.reader import open_output as open_output

_HOMES = {
    "DeadLetter": "transforms.elements",
    "Document": "transforms.elements",
    "EmbedDocuments": "transforms.embed_documents",
    "EmbedbeamError": "transforms.errors",
    "Embedding": "transforms.elements",
    "Manifest": "pipeline.run.finish",
    "MtebEncoder": "pipeline.evaluation.mteb_encoder",
    "Options": "pipeline.options.options",
    "UsageError": "transforms.errors",
    "batches": "pipeline.training.batches",
    "embed": "pipeline.embed",
    "open_output": "transforms.output.reader",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Loads what is asked for, and nothing else: Beam takes seconds to import."""
    if name == "__version__":
        from pipeline.version import installed

        return installed("embedbeam")
    if name not in _HOMES:
        raise AttributeError(f"module 'embedbeam' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
