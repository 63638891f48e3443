"""Bad documents and bad files, through the whole job."""

import gzip
import os

import jobs
import pytest

from pipeline import embed
from pipeline.run.finish import JobFailed
from transforms.errors import UsageError


def command(folder, model, *flags):
    return ["embed", f"--input={folder}/in/*", f"--output={folder}/out", f"--model={model}", *flags]


def test_every_dead_letter_of_the_corpus(finished):
    expected = []
    for name in "abc":
        expected.append((f"{name}13", "read", "blank text"))
        expected.append((f"{name}7", "embed", "the model refuses it"))
        expected.append((f"{name}.jsonl:", "read", "not JSON"))
    found = jobs.letters(finished)
    kinds = [
        (x["doc_id"].split(":")[0] + ":" * (":" in x["doc_id"]), x["stage"], x["reason"].split(":")[0])
        for x in found
    ]
    assert sorted(kinds) == sorted(expected)
    by_stage = {x["stage"]: x for x in found}
    assert by_stage["embed"]["payload"] == "a POISON text"
    assert "refused text" in by_stage["embed"]["reason"]
    broken = [x for x in found if x["reason"].startswith("not JSON")]
    assert [x["payload"] for x in broken] == ["{broken"] * 3
    assert all(x["doc_id"] == f"{x['source']}:{x['position']}" for x in broken)
    reasons = {"blank text": 3, "not JSON": 3, "the model refuses it": 3}
    assert jobs.manifest(finished)["dead_letters"] == reasons


def test_the_books_balance(finished):
    manifest, receipts = jobs.manifest(finished), jobs.receipts(finished)
    assert (manifest["documents"], manifest["rows"]) == (300, 291)
    for receipt in receipts:
        assert receipt["documents"] == receipt["rows"] + sum(receipt["dead_letters"].values())
    assert sum(r["documents"] for r in receipts) == 300
    assert manifest["shards"] == manifest["parts"] == len(receipts) == len(list(finished.glob("part-*")))


def test_kinds_of_bad_records(tmp_path, model):
    path = tmp_path / "in" / "a.jsonl"
    path.parent.mkdir()
    lines = [
        b'{"id": "good", "text": "fine", "n": 1}',
        b'{"id": "x", "text": "caf\xe9"}',
        b'{"id": "nan", "text": "NOTANUMBER"}',
        b'{"id": "none"}',
        b'{"id": "number", "text": 5}',
        b'{"id": " ", "text": "again"}',
        b'{"id": "kept", "text": "fine", "n": "two"}',
    ]
    path.write_bytes(b"\n".join(lines))
    offsets = [sum(len(line) + 1 for line in lines[:i]) for i in range(len(lines))]
    jobs.write_jsonl(tmp_path / "in" / "b.jsonl", [{"id": f"b{i}", "text": f"b {i}"} for i in range(10)])
    options = {"model": model, "id_field": "id", "max_dead_letters": 6}
    embed(input=f"{tmp_path}/in/*", output=f"{tmp_path}/out", **options)
    found = {x["position"]: x for x in jobs.letters(tmp_path / "out")}
    reasons = {p: x["reason"] for p, x in found.items()}
    assert sorted(reasons) == offsets[1:6]
    assert reasons[offsets[1]].startswith("not UTF-8")
    assert found[offsets[1]]["payload"] == '{"id": "x", "text": "caf\\xe9"}'
    assert reasons[offsets[2]] == "the model gives NaN or infinity"
    assert reasons[offsets[3]] == "missing field 'text'"
    assert reasons[offsets[4]].startswith("field 'text'")
    assert reasons[offsets[5]] == "field 'id' is blank, expected an id"
    assert [r["doc_id"] for r in jobs.rows(tmp_path / "out")] == sorted(
        ["good", "kept", *(f"b{i}" for i in range(10))]
    )


def test_mixed_types_are_named(tmp_path, model, cli):
    jobs.write_jsonl(tmp_path / "in" / "a.jsonl", [{"text": "a", "n": 1}, {"text": "b", "n": "two"}])
    code, out, err = cli(*command(tmp_path, model, "--keep-field=n"))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--keep-field n: int64 (a.jsonl at 0) and string (a.jsonl at 22)" in err
    assert not (tmp_path / "out").exists()


def test_a_type_that_changes_beyond_the_sample(tmp_path, model, monkeypatch):
    monkeypatch.setattr("pipeline.plan.kept._SMALL_INPUT", 0)
    records = [{"text": f"a {i}", "n": i} for i in range(200)]
    records[150]["n"] = "x150"
    jobs.write_jsonl(tmp_path / "in" / "a.jsonl", records)
    embed(input=f"{tmp_path}/in/*", output=f"{tmp_path}/out", model=model, keep_field=["n"])
    (letter,) = jobs.letters(tmp_path / "out")
    assert letter["reason"] == "keep field 'n' expected int64, got string: 'x150'"
    assert [r["n"] for r in sorted(jobs.rows(tmp_path / "out"), key=lambda r: r["position"])] == [
        i for i in range(200) if i != 150
    ]


def test_a_shard_of_dead_letters_alone(tmp_path, model):
    jobs.write_jsonl(tmp_path / "in" / "a.jsonl", [{"text": "fine"}])
    jobs.write_jsonl(tmp_path / "in" / "b.jsonl", ["{"] * 3)
    jobs.write_jsonl(tmp_path / "in" / "c.jsonl", [])
    result = embed(
        input=f"{tmp_path}/in/*", output=f"{tmp_path}/out", model=model, shard_bytes=1, max_dead_letters=3
    )
    assert (result.documents, result.rows, result.parts) == (4, 1, 1)
    assert len(list((tmp_path / "out").glob("part-*"))) == 1
    empty = [r for r in jobs.receipts(tmp_path / "out") if r["part"] is None]
    assert {r["documents"] for r in empty} <= {0, 1, 2, 3}
    assert sum(sum(r["dead_letters"].values()) for r in jobs.receipts(tmp_path / "out")) == 3


def test_too_many_dead_letters(tmp_path, model, cli, monkeypatch):
    records = [*jobs.documents(50), "{", "{", {"id": "x", "text": ""}]
    jobs.write_jsonl(tmp_path / "in" / "a.jsonl", records)
    code, _, err = cli(*command(tmp_path, model, "--shard-bytes=500"))
    assert (code, err.count("\n")) == (1, 1)
    assert "3 of 53 documents are dead letters, more than --max-dead-letters 1% allows (0)" in err
    assert "Most common: not JSON (2), blank text (1)" in err
    out = tmp_path / "out"
    assert not (out / "_SUCCESS").exists()
    kept = jobs.files(out)
    assert len(jobs.rows(out)) == 50
    from pipeline.run import loading

    def refuse(*_):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(loading, "load_encoder", refuse)
    assert cli(*command(tmp_path, model, "--shard-bytes=500", "--max-dead-letters=2"))[0] == 1
    code, _, err = cli(*command(tmp_path, model, "--shard-bytes=500", "--max-dead-letters=6%"))
    assert (code, err) == (0, "")
    assert jobs.files(out) == kept
    assert (out / "_SUCCESS").exists()
    code, _, err = cli(*command(tmp_path, model, "--max-dead-letters=1"))
    assert code == 1
    assert "3 of 53 documents are dead letters" in err


@pytest.fixture
def truncated(tmp_path):
    """A truncated gzip among good files."""
    whole = "".join(f'{{"text": "gz {i} {os.urandom(8).hex()}"}}\n' for i in range(500)).encode()
    jobs.write_jsonl(tmp_path / "in" / "a.jsonl", jobs.documents(20))
    (tmp_path / "in" / "b.jsonl.gz").write_bytes(gzip.compress(whole)[:-100])
    jobs.write_jsonl(tmp_path / "in" / "c.jsonl", jobs.documents(20))
    return tmp_path


def test_a_truncated_file_fails_its_shard_alone(truncated, model, cli):
    out = truncated / "out"
    code, _, err = cli(*command(truncated, model, "--shard-bytes=2000"))
    assert code == 1
    first, bad = err.splitlines()
    assert first.startswith("embedbeam: error: 1 of 3 shards failed on bad files; 2 are committed.")
    assert "--skip-bad-files" in first
    assert bad.startswith("  b.jsonl.gz at ")
    assert "truncated gzip" in bad
    assert not (out / "_SUCCESS").exists()
    assert {row["source"] for row in jobs.rows(out)} == {"a.jsonl", "c.jsonl"}
    assert jobs.temporaries(out) == []
    code, text, _ = cli("status", out)
    assert code == 0
    assert "bad file    b.jsonl.gz at " in text
    good = jobs.files(out)
    code, _, err = cli(*command(truncated, model, "--shard-bytes=2000", "--skip-bad-files"))
    assert code == 1
    assert "1 of 41 documents are dead letters" in err
    flags = ["--shard-bytes=2000", "--skip-bad-files", "--max-dead-letters=1"]
    assert cli(*command(truncated, model, *flags))[::2] == (0, "")
    (letter,) = jobs.letters(out)
    assert (letter["source"], letter["stage"], letter["payload"]) == ("b.jsonl.gz", "read", None)
    assert letter["reason"].startswith("bad file: truncated gzip")
    assert jobs.files(out).items() >= good.items()
    assert cli("verify", out)[0] == 0


@pytest.mark.parametrize("change", ["append", "touch", "delete"])
def test_a_file_that_changes_after_the_plan(truncated, model, cli, change):
    """The first run fails on the bad file; before the second one, another file changes."""
    path = truncated / "in" / "b.jsonl.gz"
    assert cli(*command(truncated, model, "--shard-bytes=2000"))[0] == 1
    if change == "append":
        path.write_bytes(path.read_bytes() + b"more")
    elif change == "touch":
        os.utime(path, (1, 1))
    else:
        path.unlink()
    code, _, err = cli(*command(truncated, model, "--shard-bytes=2000"))
    assert code == 1
    says = "the file is gone" if change == "delete" else "changed since the plan was made"
    (line,) = [line for line in err.splitlines() if line.startswith("  b.jsonl.gz: ")]
    assert says in line
    what = "are gone" if change == "delete" else "have changed"
    note = (
        f"embedbeam: 1 input files {what} since the plan was made, e.g. {path}; rows that are committed stay"
    )
    assert err.startswith(note)


def test_a_model_that_fails_on_everything(tmp_path, save_model, cli):
    jobs.write_jsonl(tmp_path / "in" / "a.jsonl", jobs.documents(20))
    broken = save_model(breaks=True)
    code, out, err = cli(*command(tmp_path, broken))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "broken model" in err
    assert jobs.letters(tmp_path / "out") == []
    assert jobs.receipts(tmp_path / "out") == []
    assert jobs.temporaries(tmp_path / "out") == []


def test_errors_in_python(truncated, model):
    options = {"input": f"{truncated}/in/*", "output": f"{truncated}/out", "model": model}
    with pytest.raises(JobFailed, match=r"b\.jsonl\.gz at"):
        embed(**options, shard_bytes=2000)
    with pytest.raises(UsageError, match="`shard_bytes`: 2000 there, 3000 here"):
        embed(**options, shard_bytes=3000)


def test_documents_without_memory_are_halved(tmp_path, save_model):
    jobs.write_jsonl(tmp_path / "in" / "a.jsonl", jobs.documents(40))
    small = save_model(fits=8)
    embed(input=f"{tmp_path}/in/*", output=f"{tmp_path}/out", model=small, id_field="id")
    assert [r["doc_id"] for r in jobs.rows(tmp_path / "out")] == sorted(f"d{i}" for i in range(40))
