"""Builds one SavedModel: `python -m transforms.encoder.export.build CHECKPOINT_DIR MODEL_DIR PRECISION`.

Ends when its standard input does, which is its parent's end, and leaves nothing behind then.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

from transforms.encoder.child import end_with_parent
from transforms.encoder.export.blocks.layout import Layout
from transforms.encoder.export.blocks.transformer import Transformer
from transforms.encoder.export.checkpoint import Checkpoint, read_checkpoint
from transforms.encoder.export.head import Head
from transforms.encoder.export.host_tokenizer import HostTokenizer
from transforms.encoder.export.saved_model import EXTRA
from transforms.encoder.export.tokenizer import BertTokenizer
from transforms.encoder.export.wordpiece import WordPiece

_TEXTS = tf.TensorSpec([None], tf.string, name="text")
_IDS = (tf.TensorSpec([None], tf.int32, name="ids"), tf.TensorSpec([None], tf.int32, name="lengths"))
_OWN_NAMES = ("serving_default", "count_tokens", "tokenize", "embed_ids")


class IdEncoder(tf.Module):
    """Token ids in, embeddings out."""

    def __init__(self, checkpoint: Checkpoint, *, precision: str) -> None:
        super().__init__()
        self.max_tokens = tf.Variable(checkpoint.max_tokens, trainable=False, dtype=tf.int32)
        self._heads = {"heads": checkpoint.made_of.heads, "key_heads": checkpoint.made_of.key_heads}
        self._transformer = Transformer(checkpoint.made_of, checkpoint.weights, precision=precision)
        self._head = Head(checkpoint.modules, pooling=checkpoint.pooling, dim=checkpoint.dim)

    def embed(self, ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """int32 [t], all texts' tokens one after the other, and int32 [n] -> float32 [n, dim]."""
        layout = Layout(lengths, **self._heads)
        return self._head(self._transformer(ids, layout), layout)

    @tf.function(input_signature=_IDS)
    def embed_ids(self, ids: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        """The signature embed_ids: each text has 1 to max_tokens ids, special tokens among them."""
        return {"embedding": self.embed(ids, lengths)}

    def signatures(self) -> dict[str, Any]:
        """By name."""
        return {"embed_ids": self.embed_ids}


class TextEncoder(IdEncoder):
    """Tokenizer and encoder as one object, as TF Hub's text embedding models are."""

    def __init__(self, checkpoint: Checkpoint, *, precision: str) -> None:
        super().__init__(checkpoint, precision=precision)
        made_of = checkpoint.tokenizer
        assert isinstance(made_of, WordPiece)
        self._tokenizer = BertTokenizer(
            made_of.vocab,
            lower_case=made_of.lower_case,
            strip_accents=made_of.strip_accents,
            max_tokens=checkpoint.max_tokens,
        )
        self._prompts = dict(checkpoint.prompts)

    @tf.function(input_signature=[_TEXTS])
    def __call__(self, text: tf.Tensor) -> tf.Tensor:
        """String [n] -> float32 [n, dim]."""
        tokens = self._tokenizer.tokenize(text)
        return self.embed(tokens.values, tf.cast(tokens.row_lengths(), tf.int32))

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

    @tf.function(input_signature=[_TEXTS])
    def tokenize_flat(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """The signature tokenize: what embed_ids takes, and the numbers of tokens before the cut."""
        ids, tokens = self._tokenizer.tokenize_and_count(text)
        return {"ids": ids.values, "lengths": tf.cast(ids.row_lengths(), tf.int32), "tokens": tokens}

    def signatures(self) -> dict[str, Any]:
        """By name; each prompt has one, whose texts it is put before."""
        mine = {
            "serving_default": self.serve,
            "count_tokens": self.count_tokens,
            "tokenize": self.tokenize_flat,
        }
        return (
            super().signatures()
            | mine
            | {name: self._prompted(text) for name, text in self._prompts.items() if name not in _OWN_NAMES}
        )

    def _prompted(self, prompt: str) -> Any:
        @tf.function(input_signature=[_TEXTS])
        def prompted(text: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"embedding": self(tf.strings.join([prompt, text]))}

        return prompted


def build(checkpoint_dir: Path, model_dir: Path, *, precision: str) -> None:
    """Writes the SavedModel of a checkpoint into model_dir."""
    checkpoint = read_checkpoint(checkpoint_dir)
    kind = IdEncoder if isinstance(checkpoint.tokenizer, HostTokenizer) else TextEncoder
    encoder = kind(checkpoint, precision=precision)
    tf.saved_model.save(encoder, str(model_dir), signatures=encoder.signatures())
    _sort_maps(model_dir / "saved_model.pb")
    extra = model_dir / EXTRA
    extra.mkdir()
    _write_json(extra / "embedbeam.json", describe(checkpoint, precision=precision))
    if isinstance(checkpoint.tokenizer, HostTokenizer):
        _write_json(extra / "tokenizer.json", checkpoint.tokenizer.content)


def describe(checkpoint: Checkpoint, *, precision: str) -> dict[str, Any]:
    """What a job has to know of the model that its signatures do not say."""
    return {
        "family": checkpoint.made_of.family,
        "max_tokens": checkpoint.max_tokens,
        "dim": checkpoint.dim,
        "pooling": checkpoint.pooling,
        "normalize": checkpoint.modules.normalize,
        "precision": precision,
        "tokenizer": "host" if isinstance(checkpoint.tokenizer, HostTokenizer) else "graph",
        "prompts": dict(checkpoint.prompts),
        "default_prompt": checkpoint.default_prompt,
        "matryoshka_dims": list(checkpoint.matryoshka_dims),
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _sort_maps(path: Path) -> None:
    """Protobuf writes maps in hash order, which differs between processes; their digests must not."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    message = SavedModel.FromString(path.read_bytes())
    path.write_bytes(message.SerializeToString(deterministic=True))


def _delete(model_dir: Path) -> None:
    for _ in range(100):  # again, where the other thread has just written
        shutil.rmtree(model_dir, ignore_errors=True)
        if not model_dir.exists():
            break


if __name__ == "__main__":
    end_with_parent(lambda: _delete(Path(sys.argv[2])))
    build(Path(sys.argv[1]), Path(sys.argv[2]), precision=sys.argv[3])
