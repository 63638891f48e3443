"""Small random BERT checkpoints, as people publish them."""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file

from transforms.encoder.export.config import Config
from transforms.encoder.export.families import read_architecture

HIDDEN, LAYERS, HEADS, INNER, POSITIONS = 32, 2, 4, 64, 12
VOCAB = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdefghij",
    *(f"##{c}" for c in "abcdefghij"),
    "A",
    ".",
]
CONFIG = {
    "model_type": "bert",
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "max_position_embeddings": POSITIONS,
    "vocab_size": len(VOCAB),
    "type_vocab_size": 2,
    "hidden_act": "gelu",
}


def write_checkpoint(
    folder: Path, *, st: bool = True, dtype: str = "float32", prefix: str = "", **changes
) -> Path:
    """A random checkpoint; `changes` replaces whole files ("config.json" -> dict merged into the default)."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "config.json": CONFIG,
        "tokenizer_config.json": {"do_lower_case": True},
    }
    if st:
        files["sentence_bert_config.json"] = {"max_seq_length": 10}
        files["1_Pooling/config.json"] = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
        files["modules.json"] = modules("Transformer", "Pooling", "Normalize")
    for name, change in changes.items():
        files[name] = files.get(name, {}) | change if isinstance(change, dict) else change
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    (folder / "vocab.txt").write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
    save_file(random_weights(dtype=dtype, prefix=prefix), folder / "model.safetensors")
    return folder


def modules(*names: str) -> list[dict]:
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    return [{"type": f"sentence_transformers.models.{name}", "path": paths.get(name, name)} for name in names]


def random_weights(*, dtype: str = "float32", prefix: str = "") -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    shapes = read_architecture(Config(Path("config.json"), CONFIG)).weight_shapes()
    weights = {name: random.normal(0, 0.3, shape) for name, shape in shapes.items()}
    return {prefix + name: w.astype(tf.as_dtype(dtype).as_numpy_dtype) for name, w in weights.items()}
