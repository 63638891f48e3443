"""Turns a checkpoint folder into a TF2 SavedModel in TF Hub's form: strings or ids in, embeddings out."""

from transforms.encoder.export.minilm import ensure_minilm
from transforms.encoder.export.saved_model import export

__all__ = ["ensure_minilm", "export"]
