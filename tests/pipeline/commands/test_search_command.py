"""search and neighbors: what they print, and what they refuse."""

import io
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time

import jobs
import numpy as np
import outputs
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from pipeline import embed
from pipeline.run.screen import print_json
from pipeline.search import many
from transforms.output.reader import open_output


def vectors_of(model, texts):
    """What the model gives, asked without this package."""
    return tf.saved_model.load(model).signatures["serving_default"](tf.constant(texts))["embedding"].numpy()


@pytest.fixture(scope="module")
def short(tmp_path_factory, model):
    """The output of a job of 60 documents that the model takes at once, with text and a field."""
    folder = tmp_path_factory.mktemp("short")
    records = [one | {"half": "ab"[i % 2]} for i, one in enumerate(jobs.documents(60))]
    jobs.write_jsonl(folder / "docs.jsonl", records)
    embed(
        input=folder / "docs.jsonl",
        output=folder / "out",
        model=model,
        id_field="id",
        keep_field="half",
        keep_text=True,
        shard_bytes=1000,
        quiet=True,
    )
    return folder / "out"


def nearest_ids(output, vector, k):
    ids, vectors = zip(*open_output(str(output)).vectors(), strict=True)
    names = [name for block in ids for name in block]
    cosines = np.concatenate(vectors) @ vector
    order = np.argsort(-cosines, kind="stable")[:k]
    return [(names[i], pytest.approx(float(cosines[i]), abs=1e-5)) for i in order]


def test_a_question(short, model, cli):
    question = "document 7 word"
    code, out, err = cli("search", short, question, "--k=4", "--json")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert (record["output"], record["question"]) == (str(short), question)
    hits = record["results"]
    [vector] = vectors_of(model, [question])
    assert [(hit["doc_id"], hit["score"]) for hit in hits] == nearest_ids(short, vector, 4)
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4]
    assert hits[0]["text"].startswith("document ")
    assert set(hits[0]) == {"rank", "score", "doc_id", "half", "text"}

    assert cli("search", short, "--k", "4", question, "--json")[:2] == (code, out)  # in any order
    code, out, _ = cli("search", short, question, "--k=4")
    lines = out.splitlines()
    assert len(lines) == 4
    for line, hit in zip(lines, hits, strict=True):
        assert line.split() == [
            f"{hit['score']:.3f}",
            hit["doc_id"],
            f"half={hit['half']}",
            *hit["text"].split(),
        ]
    assert len({line.index("half=") for line in lines}) == 1  # aligned

    code, out, _ = cli("search", short, question, "--k=30", "--filter=half = 'b'", "--json")
    halves = json.loads(out)["results"]
    assert len(halves) == 30
    assert {hit["half"] for hit in halves} == {"b"}
    code, out, _ = cli("search", short, question, "--filter=doc_id = 'd9'", "--json")
    assert [hit["doc_id"] for hit in json.loads(out)["results"]] == ["d9"]
    code, out, _ = cli("search", short, question, "--filter=doc_id = 'none'")
    assert (code, out) == (0, "no row fulfils the condition\n")


def test_by_index(short, cli, tmp_path):
    shutil.copytree(short, tmp_path / "out")
    exact = json.loads(cli("search", tmp_path / "out", "document 3", "--json")[1])["results"]
    code, out, err = cli("search", tmp_path / "out", "document 3", "--index", "--json")
    assert code == 0
    assert "recall@10 1.000 against exact search (30 rows asked)" in err
    hits = json.loads(out)["results"]
    assert [hit["doc_id"] for hit in hits] == [hit["doc_id"] for hit in exact]
    assert cli("verify", tmp_path / "out")[0] == 0
    assert len(pq.read_table(tmp_path / "out")) == 60
    code, _, err = cli("search", tmp_path / "out", "x", "--index", "--filter=half = 'a'")
    assert (code, err.count("\n")) == (2, 1)
    assert "leave --index out" in err


def test_questions_of_a_file(short, model, cli, tmp_path):
    """They are embedded as documents are, and each gets its rows."""
    questions = {"q1": "document 7 word", "q2": "document 12", "q3": "something else"}
    lines = [{"name": name, "text": text} for name, text in questions.items()]
    path = jobs.write_jsonl(tmp_path / "q.jsonl", lines)
    code, out, err = cli(
        "search", short, "--queries", path, "--id-field=name", "--k=2", "--to", tmp_path / "to"
    )
    assert (code, err) == (0, f"embedbeam: embedding the questions of {path}\n")
    assert out == f"3 questions, 6 rows: {tmp_path / 'to' / 'nearest.parquet'}\n"
    rows = pq.read_table(tmp_path / "to").to_pylist()
    expected = [
        (name, rank, doc_id, score)
        for name, vector in zip(questions, vectors_of(model, list(questions.values())), strict=True)
        for rank, (doc_id, score) in enumerate(nearest_ids(short, vector, 2), 1)
    ]
    assert [tuple(row.values()) for row in rows] == expected


def test_questions_that_changed_after_a_kill(short, model, cli, tmp_path, monkeypatch):
    """Those that were embedded are embedded anew; a filter that is none is told before any is."""
    path, to, done = tmp_path / "q.jsonl", tmp_path / "to", []

    def stops(*_, **__):
        done.append(1)
        raise KeyboardInterrupt

    ask = ("search", short, "--queries", path, "--id-field=id", "--k=1", "--to", to)
    jobs.write_jsonl(path, [{"id": "q", "text": "document 7 word"}])
    code, _, err = cli(*ask, "--filter=colour = 1")
    assert (code, err.count("\n"), to.exists()) == (2, 1, False)
    with monkeypatch.context() as patch:
        patch.setattr(many, "_write", stops)
        assert cli(*ask)[0] == 130
    assert (to / "_queries" / "_SUCCESS").exists()
    jobs.write_jsonl(path, [{"id": "q", "text": "document 12"}])
    assert cli(*ask)[0] == 0
    [vector] = vectors_of(model, ["document 12"])
    [row] = pq.read_table(to).to_pylist()
    assert [(row["doc_id"], row["score"])] == nearest_ids(short, vector, 1)
    assert [one.name for one in to.iterdir()] == ["nearest.parquet"]


def test_a_blank_question_among_others(short, cli, tmp_path):
    path = jobs.write_jsonl(
        tmp_path / "q.jsonl", [{"id": "a", "text": " "}, {"id": "b", "text": "document 5"}]
    )
    ask = ("search", short, "--queries", path, "--id-field=id", "--k=1", "--to", tmp_path / "to")
    code, _, err = cli(*ask)
    assert code == 0
    assert err.splitlines()[1:] == ["embedbeam: 1 questions have no answer: 1 blank text"]
    assert [row["query_id"] for row in pq.read_table(tmp_path / "to").to_pylist()] == ["b"]
    jobs.write_jsonl(path, [{"id": "a", "text": " "}])
    code, _, err = cli(*ask)
    assert (code, err.splitlines()[1:]) == (
        2,
        [f"embedbeam: error: --queries {path}: holds no question that could be embedded: 1 blank text"],
    )
    assert [one.name for one in (tmp_path / "to").iterdir()] == ["nearest.parquet"]
    jobs.write_jsonl(path, [{"id": "a", "text": "document 6"}])
    assert cli(*ask)[0] == 0
    assert [row["query_id"] for row in pq.read_table(tmp_path / "to").to_pylist()] == ["a"]


@pytest.mark.parametrize("text", ["", "\n\n", '{"id": "a", "text": " "}\n', "no JSON\n"])
def test_no_question_at_all(short, cli, tmp_path, text):
    """It is told of the file, and nothing is left."""
    path, to = tmp_path / "q.jsonl", tmp_path / "to"
    path.write_text(text)
    code, out, err = cli("search", short, "--queries", path, "--id-field=id", "--k=1", "--to", to)
    assert (code, out) == (2, "")
    assert f"--queries {path}: holds no question" in err.splitlines()[-1]
    assert not to.exists()


def test_no_file_of_questions(short, cli, tmp_path):
    path, to = tmp_path / "q.jsonl", tmp_path / "to"
    code, out, err = cli("search", short, "--queries", path, "--to", to)
    assert (code, out, to.exists()) == (2, "", False)
    assert err == f"embedbeam: error: --queries {path}: matches no file; check the path\n"


def test_json_of_any_value(capfd):
    import datetime
    import decimal

    day = datetime.datetime(2026, 1, 2, 3, 4)
    values = [
        day,
        day.date(),
        decimal.Decimal("1.50"),
        b"\xff\x00",
        datetime.timedelta(hours=1),
        float("nan"),
    ]
    print_json({"values": [*values, float("-inf"), "NaN"]})
    assert json.loads(capfd.readouterr().out, parse_constant=pytest.fail)["values"] == [
        *("2026-01-02T03:04:00", "2026-01-02", "1.50", "/wA=", "1:00:00", None, None, "NaN")
    ]


def test_what_is_not_utf_8(short, cli, monkeypatch):
    piped = io.TextIOWrapper(io.BytesIO(b"document 1\nd\xffcument\ndocument 2\n"), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", piped)
    code, out, err = cli("search", short, "--k=1", "--json")
    first, refused, second = map(json.loads, out.splitlines())
    assert (code, first["question"], second["question"]) == (0, "document 1", "document 2")
    assert refused == {
        "question": "d\udcffcument",
        "error": "question 'd\\udcffcument': is not UTF-8",
    }
    assert err == "embedbeam: error: question 'd\\udcffcument': is not UTF-8\n"
    code, _, err = cli("neighbors", short, "d\udcff")
    assert (code, err) == (2, "embedbeam: error: document 'd\\udcff': is not UTF-8, as ids are\n")
    monkeypatch.setenv("COLUMNS", "")
    code, out, _ = cli("neighbors", short, "d1", "--k=1")
    assert (code, out.count("\n")) == (0, 1)


def test_one_after_the_other(short, cli, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("document 1\n\na POISON question\ndocument 2\n"))
    code, out, err = cli("search", short, "--k=1", "--json")
    assert code == 0
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["question"] for answer in answers] == ["document 1", "a POISON question", "document 2"]
    assert [len(answer.get("results", ())) for answer in answers] == [1, 0, 1]
    assert answers[1]["error"].startswith("question 'a POISON question': the model refuses it: ")
    empty, refused = err.splitlines()
    assert empty == "embedbeam: line 2 of standard input is empty: no question"
    assert refused.startswith("embedbeam: error: question 'a POISON question': the model refuses it: ")


@pytest.mark.slow
def test_at_a_terminal(short):
    """The real command under a real terminal: it asks, answers, asks again, and ends with Ctrl-D."""
    ours, theirs = pty.openpty()
    command = [jobs.PYTHON, "-m", "pipeline", "search", str(short), "--k=1"]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=jobs.environment(), close_fds=True
    )
    os.close(theirs)
    typed = [b"document 5\n", b"\n", b"document 6\n", b"\x04"]
    shown, end = b"", time.monotonic() + 120
    while time.monotonic() < end:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # its end is closed
                break
        if typed and shown.endswith(b"> "):
            os.write(ours, typed.pop(0))
            shown += b"."
    os.close(ours)
    assert process.wait(30) == 0
    words = shown.decode()
    assert not typed
    assert words.count("> ") == 4
    assert words.count("1.000  d5 ") + words.count("half=") >= 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["  "], "the question is empty: expected a few words"),
        (["a", "--k=61"], "--k 61: {out} has 60 rows; ask for no more"),
        (["a", "--k=0"], "argument --k: '0': expected a number from 1"),
        (["a", "--filter=colour = 1"], "--filter 'colour = 1': Referenced column \"colour\" not found"),
        (["a", "--queries=q.jsonl", "--to=x"], "QUESTION and --queries FILE: give one of the two"),
        (["--queries=q.jsonl"], "--queries FILE and --to FOLDER belong together"),
        (["a", "--to=x"], "--queries FILE and --to FOLDER belong together"),
        (["--queries=q.jsonl", "--to={out}"], "--to {out}: is the output of a job; choose another folder"),
        (["--queries=q.jsonl", "--to={out}/_SUCCESS"], "--to {out}/_SUCCESS: is a file; expected a folder"),
        (["--queries=q.jsonl", "--to=s3:///x"], "--to s3:///x: no bucket; expected s3://BUCKET/PATH"),
        (["a", "--runner=FlinkRunner"], "--runner and --shared-filesystem go with --queries FILE"),
        (["a", "--prompt=query"], "prompt query: the model has no such prompt"),
        (["a", "--model=/nowhere"], "model /nowhere"),
        (["a POISON question"], "question 'a POISON question': the model refuses it"),
    ],
)
def test_refused(short, cli, arguments, words):
    code, out, err = cli("search", short, *(one.format(out=short) for one in arguments))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words.format(out=short) in err


def test_another_model(short, save_model, cli, model):
    other = save_model(window=12)
    code, out, err = cli("search", short, "a question", "--model", other)
    assert (code, out, err.count("\n")) == (2, "", 1)
    digest = open_output(str(short)).plan.head["model_digest"]
    assert f"{other} (digest " in err
    assert f"is another model than that of {short}, {model} (digest {digest[:16]}…)" in err


def test_a_question_longer_than_the_window(short, cli):
    code, _, err = cli("search", short, "word " * 20, "--k=1")
    assert code == 0
    assert (
        err
        == "embedbeam: the question has 20 tokens, and the model takes 16: it is asked with its beginning\n"
    )


def test_unfinished(copy_of, cli):
    (copy_of / "_SUCCESS").unlink()
    code, _, err = cli("search", copy_of, "a question")
    assert (code, err.count("\n")) == (2, 1)
    assert "the job has not finished, it has no _SUCCESS" in err
    code, out, _ = cli("search", copy_of, "a question", "--partial", "--k=2")
    assert (code, len(out.splitlines())) == (0, 2)


def test_documents_that_are_no_text(tmp_path, cli):
    made = outputs.make(tmp_path / "out", modality="image")
    code, _, err = cli("search", made.path, "a question")
    assert (code, err.count("\n")) == (2, 1)
    assert "its documents are image, and a question is text; `embedbeam neighbors` finds" in err


@pytest.mark.parametrize("form", ["parquet", "tfrecord"])
def test_neighbors(tmp_path, cli, form):
    made = outputs.make(tmp_path / "out", output_format=form)
    rows = [row for shard in made.shards for row in made.rows[shard]]
    vectors = np.array([row.vector for row in rows])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    one = rows[25].doc_id
    cosines = vectors @ vectors[25]
    cosines[25] = -2
    order = np.argsort(-cosines)[:3]
    code, out, err = cli("neighbors", made.path, one, "--k=3", "--json")
    assert (code, err) == (0, "")
    [found] = json.loads(out)["rows"]
    assert found["doc_id"] == one
    assert [hit["doc_id"] for hit in found["results"]] == [rows[i].doc_id for i in order]
    assert [hit["score"] for hit in found["results"]] == pytest.approx(cosines[order].tolist(), abs=1e-5)
    code, out, _ = cli("neighbors", made.path, one, "--k=3")
    assert [line.split()[1] for line in out.splitlines()] == [rows[i].doc_id for i in order]

    for arguments, words in {
        ("nobody",): f"no row of document 'nobody'; its ids look like {rows[0].doc_id!r}",
        (one, "--k=60"): "has 59 rows beside the 1 of the document; ask for no more",
        (): "expected a DOC_ID, or --all for every row",
        (one, "--all", "--to=x"): "expected a DOC_ID, or --all for every row",
        ("--all",): "--all and --to FOLDER belong together",
        ("--all", f"--to={tmp_path / 'to'}", "--index", "--runner=FlinkRunner"): "--index answers here",
    }.items():
        code, out, err = cli("neighbors", made.path, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert words in err


def test_all_neighbors(short, cli, tmp_path):
    code, out, _ = cli("neighbors", short, "--all", "--k=2", "--to", tmp_path, "--json")
    assert code == 0
    record = json.loads(out)
    assert (record["questions"], record["rows"], record["k"]) == (60, 120, 2)
    rows = pq.read_table(record["to"]).to_pylist()
    assert [row["query_id"] for row in rows] == [f"d{i // 2}" for i in range(120)]
    assert [row["rank"] for row in rows] == [1, 2] * 60
    assert not [row for row in rows if row["query_id"] == row["doc_id"]]


def test_chunks(tmp_path, model, cli):
    """A row is a chunk: it is shown with its number and its span, and its document's others are left out."""
    texts = {"a": "a text ", "b": "other words ", "c": "the third text "}
    lines = [{"id": name, "text": text * 12} for name, text in texts.items()]
    jobs.write_jsonl(tmp_path / "docs.jsonl", [*lines, {"id": "d", "text": "short"}])
    given = {"long_documents": "chunks", "chunk_overlap": 0, "quiet": True}
    embed(input=tmp_path / "docs.jsonl", output=tmp_path / "out", model=model, id_field="id", **given)
    rows = [(row["doc_id"], row["chunk"], row["start"], row["end"]) for row in jobs.rows(tmp_path / "out")]
    names = ["{} #{} [{}:{}]".format(*row) for row in rows]
    own = [name for name in names if name.startswith("b ")]
    assert len(own) == 2
    k = len(rows) - 2
    _, out, _ = cli("neighbors", tmp_path / "out", "b", f"--k={k}")
    lines = out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == own
    others = [" ".join(line.split()[1:]) for line in lines if line.startswith(" ")]
    assert sorted(others[:k]) == sorted(others[k:]) == [name for name in names if name not in own]
    _, out, _ = cli("neighbors", tmp_path / "out", "d", "--k=1", "--json")
    [row] = json.loads(out)["rows"]
    assert (row["doc_id"], row["chunk"], row["start"], row["end"]) == ("d", 0, 0, 5)
    assert cli("neighbors", tmp_path / "out", "--all", "--k=1", "--to", tmp_path / "to")[0] == 0
    table = pq.read_table(tmp_path / "to" / "nearest.parquet")
    asking = zip(*(table.column(name).to_pylist() for name in ("query_id", "query_chunk")), strict=True)
    assert list(asking) == [row[:2] for row in rows]
    assert table.schema.names == [
        *("query_id", "query_chunk", "rank", "doc_id", "chunk", "start", "end", "score")
    ]


def test_prompts(model, tmp_path, cli):
    """Documents with their prompt: questions get that for queries, unless another one is asked for."""
    own = tmp_path / "model"
    shutil.copytree(model, own)
    (own / "assets.extra").mkdir(exist_ok=True)
    about = {"prompts": {"query": "query: ", "document": "passage: "}}
    (own / "assets.extra" / "embedbeam.json").write_text(json.dumps(about))
    jobs.write_jsonl(tmp_path / "docs.jsonl", jobs.documents(5))
    given = {"input": tmp_path / "docs.jsonl", "id_field": "id", "model": own, "quiet": True}
    embed(**given, output=tmp_path / "with", prompt="document")
    embed(**given, output=tmp_path / "without")
    for out, options, before in (
        ("with", [], "query: "),
        ("with", ["--prompt=document"], "passage: "),
        ("with", ["--prompt=ask: "], "ask: "),
        ("without", [], ""),
        ("without", ["--prompt=query"], "query: "),
    ):
        _, text, _ = cli("search", tmp_path / out, "document 2", "--k=5", "--json", *options)
        [vector] = vectors_of(model, [f"{before}document 2"])
        hits = json.loads(text)["results"]
        assert [(hit["doc_id"], hit["score"]) for hit in hits] == nearest_ids(tmp_path / out, vector, 5)
