"""A small random checkpoint of each architecture, as people publish them; what the golden vectors are of."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from golden.texts import golden_texts
from safetensors.numpy import save_file

from transforms.encoder.export.config import Config
from transforms.encoder.export.families import read_architecture

GOLDEN = Path(__file__).resolve().parent / "golden"
TOKENIZERS = GOLDEN / "tokenizers"
POOLINGS = ("mean", "cls", "lasttoken")
PROMPTS = {"query": "Instruct: find what answers.\nQuery: ", "passage": ""}
HIDDEN = 32
_ENCODER = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "type_vocab_size": 2,
}
_DECODER = {**_ENCODER, "num_key_value_heads": 2, "hidden_act": "silu", "rms_norm_eps": 1e-6}
_WORDPIECE = {"do_lower_case": True, "tokenizer_class": "BertTokenizer"}
_FAST = {"tokenizer_class": "PreTrainedTokenizerFast"}


@dataclass(frozen=True)
class Family:
    """One checkpoint.

    Attributes:
      tokenizer: file in TOKENIZERS; a .txt is a vocab.txt.
      window: max_seq_length.
      config: config.json, without vocab_size.
      settings: tokenizer_config.json.
      pooling: of 1_Pooling.
      dense: dimensions of dense modules after it.
    """

    tokenizer: str
    window: int
    config: dict
    settings: dict
    pooling: str = "mean"
    dense: tuple[int, ...] = ()
    prompts: dict = field(default_factory=dict)


FAMILIES = {
    "bert": Family(
        "wordpiece.txt",
        512,
        {"model_type": "bert", "max_position_embeddings": 512, **_ENCODER},
        _WORDPIECE,
        pooling="cls",
        dense=(24, 16),
    ),
    "distilbert": Family(
        "wordpiece.txt",
        512,
        {
            "model_type": "distilbert",
            "dim": HIDDEN,
            "n_layers": 3,
            "n_heads": 4,
            "hidden_dim": 48,
            "max_position_embeddings": 512,
        },
        _WORDPIECE,
        prompts=PROMPTS,
    ),
    "roberta": Family(
        "roberta.json",
        512,
        {"model_type": "roberta", "max_position_embeddings": 514, **_ENCODER, "type_vocab_size": 1},
        {
            "tokenizer_class": "RobertaTokenizer",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "sep_token": "</s>",
            "cls_token": "<s>",
            "unk_token": "<unk>",
            "pad_token": "<pad>",
            "mask_token": "<mask>",
        },
    ),
    "xlm-roberta": Family(
        "xlmr.json",
        8192,
        {
            "model_type": "xlm-roberta",
            "max_position_embeddings": 8194,
            **_ENCODER,
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
        },
        {**_FAST, "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"},
        pooling="cls",
        prompts=PROMPTS,
    ),
    "mpnet": Family(
        "mpnet.json",
        512,
        {
            "model_type": "mpnet",
            "max_position_embeddings": 514,
            "relative_attention_num_buckets": 32,
            **_ENCODER,
        },
        {"tokenizer_class": "MPNetTokenizer", "do_lower_case": True},
    ),
    "modernbert": Family(
        "modernbert.json",
        8192,
        {
            "model_type": "modernbert",
            "max_position_embeddings": 8192,
            **_ENCODER,
            "num_hidden_layers": 4,
            "global_attn_every_n_layers": 3,
            "local_attention": 128,
            "global_rope_theta": 160000.0,
            "local_rope_theta": 10000.0,
            "pad_token_id": 0,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "cls_token_id": 2,
            "sep_token_id": 3,
        },
        {**_FAST, "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"},
        pooling="cls",
    ),
    "nomic_bert": Family(
        "wordpiece.txt",
        8192,
        {"model_type": "nomic_bert", "max_position_embeddings": 8192, **_ENCODER, "hidden_act": "silu"},
        _WORDPIECE,
        prompts={"search_query": "search_query: ", "search_document": "search_document: "},
    ),
    "qwen3": Family(
        "qwen.json",
        8192,
        {
            "model_type": "qwen3",
            "max_position_embeddings": 8192,
            **_DECODER,
            "head_dim": 16,
            "rope_theta": 1000000,
        },
        {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        pooling="lasttoken",
        prompts=PROMPTS,
    ),
    "qwen2": Family(
        "qwen.json",
        512,
        {"model_type": "qwen2", "max_position_embeddings": 2048, **_DECODER, "rope_theta": 1000000},
        {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        pooling="lasttoken",
    ),
    "llama": Family(
        "llama3.json",
        8192,
        {
            "model_type": "llama",
            "max_position_embeddings": 8192,
            **_DECODER,
            "rope_theta": 500000.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 256,
            },
        },
        {**_FAST, "bos_token": "<|begin_of_text|>", "pad_token": "<|end_of_text|>"},
    ),
    "mistral": Family(
        "llama2.json",
        512,
        {
            "model_type": "mistral",
            "max_position_embeddings": 4096,
            **_DECODER,
            "num_key_value_heads": 1,
            "sliding_window": 24,
        },
        {
            "tokenizer_class": "LlamaTokenizer",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": "</s>",
            "add_bos_token": True,
            "add_eos_token": True,
        },
        pooling="lasttoken",
    ),
}


def family_texts() -> list[str]:
    """Some hundred short texts, one of more than 512 tokens and one of more than 8,192."""
    short = [text for text in golden_texts() if len(text) <= 600][::2]
    rare = [
        "Straße",
        "日本",
        "мир",
        "naïve",
        "x1",
        "😀",
        "-",
        "[MASK]",
        "<pad>",
        "<s>",
        "</s>",
        "<|endoftext|>",
        "é",
    ]
    words = ["alpha", "beta", "gamma", "delta", *rare]
    long = [" ".join(words[i * i * 7 % len(words)] for i in range(count)) for count in (700, 9000)]
    return [*short, *rare, "a<pad>b <pad> c", *long]


def write_family(folder: Path, name: str) -> Path:
    """Writes the checkpoint of a family."""
    family, random = FAMILIES[name], np.random.default_rng(11)
    size = _copy_tokenizer(folder, family)
    config = family.config | {"vocab_size": size}
    files = {
        "config.json": config,
        "tokenizer_config.json": family.settings | {"model_max_length": family.window},
        "sentence_bert_config.json": {"max_seq_length": family.window, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": family.prompts, "default_prompt_name": None},
    }
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    files["1_Pooling/config.json"] = {"word_embedding_dimension": HIDDEN, "pooling_mode": family.pooling}
    width = HIDDEN
    for i, out in enumerate(family.dense, start=2):
        place = f"{i}_Dense"
        modules.append(("Dense", place))
        activation = ("torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity")[i % 2]
        files[f"{place}/config.json"] = {
            "in_features": width,
            "out_features": out,
            "bias": i == 2,
            "activation_function": activation,
        }
        tensors = {"linear.weight": random.normal(0, 0.3, (out, width)).astype(np.float32)}
        if i == 2:
            tensors["linear.bias"] = random.normal(0, 0.3, out).astype(np.float32)
        (folder / place).mkdir()
        save_file(tensors, folder / place / "model.safetensors")
        width = out
    modules.append(("Normalize", f"{len(modules)}_Normalize"))
    files["modules.json"] = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(modules)
    ]
    for path, content in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(content))
    shapes = read_architecture(Config(folder / "config.json", config)).weight_shapes()
    weights = {}
    for tensor, shape in shapes.items():
        gain = len(shape) == 1 and tensor.endswith("weight")  # of a norm
        weights[tensor] = (gain + random.normal(0, 0.1 if gain else 0.3, shape)).astype(np.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _copy_tokenizer(folder: Path, family: Family) -> int:
    """Returns the number of tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    source = TOKENIZERS / family.tokenizer
    if source.suffix == ".txt":
        shutil.copy(source, folder / "vocab.txt")
        return len(source.read_text(encoding="utf-8").splitlines())
    shutil.copy(source, folder / "tokenizer.json")
    content = json.loads(source.read_text(encoding="utf-8"))
    return max(len(content["model"]["vocab"]), *(1 + added["id"] for added in content["added_tokens"]))
