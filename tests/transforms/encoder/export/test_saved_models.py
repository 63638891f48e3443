"""Exported models as they lie on disk and as `hub.load` gives them: signatures, the tokenizer, the words."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub
import tensorflow_text  # noqa: F401  registers the tokenizer's ops
from families import FAMILIES, GOLDEN, PROMPTS, family_texts, write_family
from tokenizers import Tokenizer

from transforms.encoder.export.build import IdEncoder, build
from transforms.encoder.export.checkpoint import read_checkpoint
from transforms.encoder.export.saved_model import read_description
from transforms.encoder.model.handle import digest


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """built(family) is the folder of its SavedModel, made once."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            folder = tmp_path_factory.mktemp(family)
            build(write_family(folder / "checkpoint", family), folder / "model", precision="float32")
            made[family] = folder / "model"
        return made[family]

    return make


def test_a_host_tokenizer_lies_beside_the_graph(built):
    """What a runtime does: tokenizer.json as it is, cut at max_tokens, ids into the graph."""
    folder, texts = built("qwen3"), family_texts()[:40]
    assert read_description(folder) == {
        "family": "qwen3",
        "max_tokens": 8192,
        "dim": 32,
        "pooling": "last",
        "normalize": True,
        "precision": "float32",
        "tokenizer": "host",
        "prompts": PROMPTS,
        "default_prompt": None,
        "matryoshka_dims": [],
    }
    model = hub.load(str(folder))
    assert sorted(model.signatures) == ["embed_ids"]
    assert int(model.max_tokens) == 8192
    tokenizer = Tokenizer.from_file(str(folder / "assets.extra" / "tokenizer.json"))
    tokenizer.enable_truncation(8192)
    rows = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    flat = tf.constant([i for row in rows for i in row], tf.int32)
    lengths = tf.constant([*map(len, rows)], tf.int32)
    found = model.signatures["embed_ids"](ids=flat, lengths=lengths)["embedding"].numpy()
    with np.load(GOLDEN / "families" / "qwen3.npz") as golden:
        assert (found * golden["lasttoken"][:40]).sum(1).min() >= 0.99999


def test_prompts_are_signatures_where_the_tokenizer_is_in_the_graph(built):
    folder, texts = built("distilbert"), tf.constant(family_texts()[:8])
    assert read_description(folder)["prompts"] == PROMPTS
    assert sorted(p.name for p in (folder / "assets.extra").iterdir()) == ["embedbeam.json"]
    model = hub.load(str(folder))
    own = ["count_tokens", "embed_ids", "serving_default", "tokenize"]
    assert sorted(model.signatures) == sorted([*own, "query", "passage"])
    asked = {name: model.signatures[name](text=texts)["embedding"].numpy() for name in ("query", "passage")}
    plain = model.signatures["serving_default"](text=texts)["embedding"].numpy()
    np.testing.assert_array_equal(asked["passage"], plain)  # an empty prompt
    with np.load(GOLDEN / "families" / "distilbert.npz") as golden:
        assert (asked["query"] * golden["prompt_query"]).sum(1).min() >= 0.99999
        assert (plain * golden["mean"][:8]).sum(1).min() >= 0.99999


def test_the_digest_covers_the_tokenizer(built, tmp_path):
    shutil.copytree(built("qwen3"), tmp_path / "model")
    before = digest(tmp_path / "model")
    assert before == digest(built("qwen3"))
    tokenizer = tmp_path / "model" / "assets.extra" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text(encoding="utf-8").replace("NFC", "NFD"), encoding="utf-8")
    assert digest(tmp_path / "model") != before


def test_tokenizer_json_stays_what_it_was(built, tmp_path):
    write_family(tmp_path, "qwen3")
    expected = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    found = json.loads((built("qwen3") / "assets.extra" / "tokenizer.json").read_text(encoding="utf-8"))
    assert found == expected | {"truncation": None, "padding": None}


@pytest.mark.parametrize("family", ["bert", "mpnet", "modernbert", "llama"])
def test_weights_are_no_part_of_the_graph(family, tmp_path):
    """Protobuf takes 2 GB: what grows with the model are variables, which lie in files of their own."""
    encoder = IdEncoder(read_checkpoint(write_family(tmp_path, family)), precision="float32")
    graph = encoder.embed_ids.get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    constants = [node.attr["value"].tensor.ByteSize() for node in nodes if node.op == "Const"]
    assert max(constants) < 1000
    assert sum(int(np.prod(v.shape)) for v in encoder.variables) > 8000


def test_precision_is_that_of_the_kernels(tmp_path):
    read = read_checkpoint(write_family(tmp_path, "llama"))
    for precision in ("bfloat16", "float16"):
        made = IdEncoder(read, precision=precision)
        graph = made.embed_ids.get_concrete_function().graph
        kernels = {op.inputs[1].dtype.name for op in graph.get_operations() if op.type == "MatMul"}
        assert kernels == {precision}
        # Constants of the graph in bfloat16, see Dense.
        kinds = {v.dtype.name for v in made.variables}
        assert kinds == {"float32", "int32"} | ({"float16"} if precision == "float16" else set())


def test_every_family_is_here():
    assert {family.config["model_type"] for family in FAMILIES.values()} == set(FAMILIES)
