"""NomicBERT (Nussbaum et al. 2024, arXiv:2402.01613): rotary positions and SwiGLU in a BERT without biases.

Its configuration comes in two spellings: as it was published, and as `transformers` writes it.
"""

from __future__ import annotations

from transforms.encoder.export.architecture import Architecture, Layer, Names
from transforms.encoder.export.config import Config
from transforms.encoder.export.families.common import frequencies, head_width

MODEL_TYPES = ("nomic_bert",)
NAMES = Names(
    words="embeddings.word_embeddings",
    types="embeddings.token_type_embeddings",
    embedding_norm="emb_ln",
    qkv=("encoder.layers.{i}.attn.Wqkv",),
    out="encoder.layers.{i}.attn.out_proj",
    attention_norm="encoder.layers.{i}.norm1",
    up=("encoder.layers.{i}.mlp.fc12", "encoder.layers.{i}.mlp.fc11"),
    down="encoder.layers.{i}.mlp.fc2",
    mlp_norm="encoder.layers.{i}.norm2",
)
# What the published configuration can say, and what is done here; a default of None stands for "none of it".
_ONLY = {
    "causal": False,
    "prenorm": False,
    "use_rms_norm": False,
    "parallel_block": False,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "rotary_emb_fraction": 1,
    "rotary_emb_interleaved": False,
    "activation_function": "swiglu",
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "moe_every_n_layers": 0,
}


def read(config: Config) -> Architecture:
    """NomicBERT as config.json has it."""
    for key, value in _ONLY.items():
        config.require(key, value, value)
    hidden, heads = config.integer("hidden_size", "n_embd"), config.integer("num_attention_heads", "n_head")
    width = head_width(config, hidden, heads)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = config.number("rope_theta", "rotary_emb_base", default=1000)
    layer = Layer(None, frequencies(config, rope, theta=theta, width=width))
    return Architecture(
        family="nomic_bert",
        hidden=hidden,
        heads=heads,
        width=width,
        inner=config.integer("intermediate_size", "n_inner", default=4 * hidden),
        vocab_size=config.integer("vocab_size"),
        window=config.integer("max_position_embeddings", "n_positions"),
        layers=(layer,) * config.integer("num_hidden_layers", "n_layer"),
        names=NAMES,
        prefixes=("nomic_bert.", "bert."),
        activation=config.require("hidden_act", "silu", "silu"),
        epsilon=config.number("layer_norm_eps", "layer_norm_epsilon", default=1e-12),
        gated=True,
        qkv_bias=False,
        out_bias=False,
        mlp_bias=False,
        type_rows=config.integer("type_vocab_size", default=2),
    )
