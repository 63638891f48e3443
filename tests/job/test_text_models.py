"""Text models in TF Hub's shapes, and models of token ids, through the real command."""

import json
import signal

import jobs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_hub as hub
from text_models import DIM

from transforms.output.reader import open_output

pytestmark = pytest.mark.slow

TEXTS = ["the cat runs", "A dog", "small old moon lighting the tree", "un##known river", "night"] * 30
PAIR = ["--model-output=sequence_output", "--pooling=mean"]


def embed(*arguments):
    return jobs.run(*jobs.EMBED, *arguments)


def write_texts(folder):
    records = [{"id": f"d{i:03}", "text": f"{text} {'old ' * (i % 7)}"} for i, text in enumerate(TEXTS)]
    jobs.write_jsonl(folder / "a.jsonl", [*records, {"id": "blank", "text": " "}, {"id": "none"}])
    return [record["text"] for record in records]


def text_flags(text_model, shape):
    if shape == "pair":
        paths = text_model("encoder"), text_model("preprocessor")
        return [f"--model={paths[0]}", f"--preprocessor={paths[1]}", *PAIR]
    if shape == "host":
        return [f"--model={text_model('id_model', host=True)}", "--prompt=query"]
    if shape == "elmo":
        return [f"--model={text_model('elmo')}", "--model-output=default"]
    return [f"--model={text_model(shape)}"]


def directly(text_model, shape, texts):
    """Vectors of the same model on the same texts, without embedbeam."""
    if shape == "pair":
        inputs = hub.load(text_model("preprocessor"))(tf.constant(texts))
        states = hub.load(text_model("encoder"))(inputs)["sequence_output"].numpy()
        counts = inputs["input_mask"].numpy().sum(axis=1)
        return np.stack([rows[:n].mean(axis=0) for rows, n in zip(states, counts, strict=True)])
    if shape == "nnlm":
        return hub.load(text_model("nnlm"))(tf.constant(texts)).numpy()
    if shape == "elmo":
        return hub.load(text_model("elmo")).signatures["default"](tf.constant(texts))["default"].numpy()
    from text_models import word_tokenizer

    reference = word_tokenizer()
    reference.enable_truncation(12)
    ids = [np.array(reference.encode(f"find this : {text}").ids, np.int32) for text in texts]
    lengths = tf.constant([len(one) for one in ids])
    serve = hub.load(text_model("id_model", host=True)).signatures["embed_ids"]
    return serve(ids=tf.constant(np.concatenate(ids)), lengths=lengths)["embedding"].numpy()


def vectors(output):
    blocks = open_output(str(output)).vectors()
    return {i: v.tobytes() for ids, block in blocks for i, v in zip(ids, block, strict=True)}


def check_close(vectors, expected):
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((vectors * expected).sum(axis=1) / lengths).min() >= 0.99999


def check_killed_and_resumed(flags, folder):
    """To the other sink, killed after its first shard and started again: the same numbers."""
    again = [*flags, "--output-format=tfrecord", f"--output={folder / 'again'}"]
    kill_at = jobs.ROOT / "tests" / "kill_at.py"
    killed = jobs.run(jobs.PYTHON, kill_at, "after rename receipt", 1, "embed", *again)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = embed(*again)
    assert resumed.returncode == 0, resumed.stderr
    assert vectors(folder / "again") == vectors(folder / "out")


@pytest.mark.parametrize("shape", ["nnlm", "elmo", "pair", "host"])
def test_a_shape_of_model(shape, text_model, tmp_path, cli):
    texts = write_texts(tmp_path / "in")
    flags = [f"--input={tmp_path / 'in'}", "--id-field=id", "--max-dead-letters=5", "--shard-bytes=2000"]
    flags += ["--long-documents=truncate", *text_flags(text_model, shape)]
    done = embed(*flags, f"--output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    rows = jobs.rows(tmp_path / "out")
    assert [row["doc_id"] for row in rows] == [f"d{i:03}" for i in range(len(texts))]
    check_close(np.array([row["embedding"] for row in rows]), directly(text_model, shape, texts))
    reasons = [(letter["doc_id"], letter["reason"]) for letter in jobs.letters(tmp_path / "out")]
    assert reasons == [("blank", "blank text"), ("none", "missing field 'text'")]
    check_killed_and_resumed(flags, tmp_path)
    for output in ("out", "again"):
        assert cli("verify", tmp_path / output)[0] == 0


def test_another_preprocessor_is_another_job(text_model, tmp_path, cli):
    write_texts(tmp_path / "in")
    flags = [f"--input={tmp_path / 'in'}", "--id-field=id", "--max-dead-letters=5"]
    flags += [f"--output={tmp_path / 'out'}", f"--model={text_model('encoder')}"]
    right = [f"--preprocessor={text_model('preprocessor')}"]
    assert cli("embed", *flags, *right)[0] == 0
    assert cli("embed", *flags, *right)[0] == 0
    code, _, err = cli("embed", *flags, f"--preprocessor={text_model('preprocessor', length=16)}")
    assert (code, "model digest" in err) == (2, True), err
    code, _, err = cli("embed", *flags)
    assert (code, "--preprocessor" in err) == (2, True), err
    head = json.loads((tmp_path / "out/_embedbeam/plan.jsonl").read_text().splitlines()[0])
    assert text_model("preprocessor") in json.dumps(head)


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_token_ids_through_a_decoder(pooling, text_model, tmp_path, cli):
    ids = [list(range(1, 2 + i % 40)) for i in range(120)]
    table = pa.table({"id": [f"d{i:03}" for i in range(123)], "input_ids": [*ids, None, [], [1, -2]]})
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in/a.parquet", row_group_size=40)
    flags = [f"--input={tmp_path / 'in'}", "--id-field=id", "--max-dead-letters=5", f"--pooling={pooling}"]
    flags += ["--shard-bytes=500"]
    flags += [f"--model={text_model('decoder')}", "--modality=tokens", "--long-documents=truncate"]
    done = embed(*flags, f"--output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    serve = hub.load(text_model("decoder")).signatures["serving_default"]
    expected = []
    for one in ids:
        tensor = tf.constant([one[:24]], tf.int64)
        states = serve(input_ids=tensor, attention_mask=tf.ones_like(tensor))["last_hidden_state"][0].numpy()
        expected.append(states[-1] if pooling == "last" else states.mean(axis=0))
    rows = jobs.rows(tmp_path / "out")
    check_close(np.array([row["embedding"] for row in rows]), np.array(expected))
    assert [row["tokens"] for row in rows] == [len(one) for one in ids]
    assert [row["tokens_dropped"] for row in rows] == [max(0, len(one) - 24) for one in ids]
    reasons = [letter["reason"] for letter in jobs.letters(tmp_path / "out")]
    assert reasons == [
        "field 'input_ids' is null",
        "no token ids",
        "no token id: -2 at 1, expected 0 to 2147483647",
    ]
    chunks = embed(*flags[:-1], "--long-documents=chunks", "--chunk-overlap=4", f"--output={tmp_path / 'c'}")
    assert chunks.returncode == 0, chunks.stderr
    spans = [(row["start"], row["end"], row["tokens"]) for row in jobs.rows(tmp_path / "c")]
    assert spans[-1] == (0, 1, 1) or len(spans) > len(ids)
    assert {end - start == tokens <= 24 for start, end, tokens in spans} == {True}
    assert {len(row["embedding"]) for row in jobs.rows(tmp_path / "c")} == {DIM}
    check_killed_and_resumed(flags, tmp_path)
    assert cli("verify", tmp_path / "out")[0] == 0
