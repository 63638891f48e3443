"""Turns a BERT checkpoint folder into a TF2 SavedModel in TF Hub's form: strings in, embeddings out."""

from pipeline.export.minilm import ensure_minilm
from pipeline.export.saved_model import export

__all__ = ["ensure_minilm", "export"]
