"""Builds one SavedModel: `python -m transforms.encoder.export.build CHECKPOINT_DIR MODEL_DIR PRECISION`."""

import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

from transforms.encoder.export.bert import PackedBert
from transforms.encoder.export.checkpoint import Checkpoint, read_checkpoint
from transforms.encoder.export.tokenizer import BertTokenizer

_TEXTS = tf.TensorSpec([None], tf.string, name="text")


class TextEncoder(tf.Module):
    """Tokenizer and encoder as one object, as TF Hub's text embedding models are."""

    def __init__(self, checkpoint: Checkpoint, *, precision: str) -> None:
        super().__init__()
        self.max_tokens = tf.Variable(checkpoint.max_tokens, trainable=False, dtype=tf.int32)
        self._tokenizer = BertTokenizer(
            checkpoint.vocab,
            lower_case=checkpoint.lower_case,
            strip_accents=checkpoint.strip_accents,
            max_tokens=checkpoint.max_tokens,
        )
        self._bert = PackedBert(checkpoint, precision=precision)

    @tf.function(input_signature=[_TEXTS])
    def __call__(self, text: tf.Tensor) -> tf.Tensor:
        """String [n] -> float32 [n, dim]."""
        return self._bert(self._tokenizer.tokenize(text))

    @tf.function(input_signature=[_TEXTS])
    def tokenize(self, text: tf.Tensor) -> tf.RaggedTensor:
        """String [n] -> int32 [n, None], special tokens included, cut to max_tokens."""
        return self._tokenizer.tokenize(text)

    @tf.function(input_signature=[_TEXTS])
    def serve(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """The signature serving_default."""
        return {"embedding": self(text)}

    @tf.function(input_signature=[_TEXTS])
    def count_tokens(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """The signature count_tokens."""
        return {"tokens": self._tokenizer.count(text)}


def build(checkpoint_dir: Path, model_dir: Path, *, precision: str) -> None:
    """Writes the SavedModel of a checkpoint into model_dir."""
    encoder = TextEncoder(read_checkpoint(checkpoint_dir), precision=precision)
    signatures: dict[str, Any] = {"serving_default": encoder.serve, "count_tokens": encoder.count_tokens}
    tf.saved_model.save(encoder, str(model_dir), signatures=signatures)
    _sort_maps(model_dir / "saved_model.pb")


def _sort_maps(path: Path) -> None:
    """Protobuf writes maps in hash order, which differs between processes; their digests must not."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    message = SavedModel.FromString(path.read_bytes())
    path.write_bytes(message.SerializeToString(deterministic=True))


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]), precision=sys.argv[3])
