"""Documents are taken out of an output: what was theirs is gone, and what is others' stays as it was."""

import builtins
import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import jobs
import outputs
import pytest
import rows
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from leftovers import traces

from pipeline.forget.forget import forget
from transforms.errors import JobFailed, LedgerError, UsageError
from transforms.output import forgotten, layout
from transforms.output.beside import letter_line
from transforms.output.defects import find_defects
from transforms.output.fingerprints import index_of
from transforms.output.reader import open_output, row_schema
from transforms.output.shard import WriteConfig, open_sink

FORMATS = {
    "parquet": {"keep_text": True, "kept": [["note", "string"]]},
    "tfrecord": {"keep_text": True, "kept": [["note", "string"]], "output_format": "tfrecord"},
    "gzip": {"keep_text": True, "output_format": "tfrecord", "tfrecord_gzip": True, "vector_dtype": "int8"},
}


def secret(shard_id, i):
    """A word of one document alone."""
    return hashlib.md5(f"{shard_id} {i}".encode()).hexdigest()


def row(shard_id, i):
    word = secret(shard_id, i)
    fields = {"doc_id": f"id-{word}", "text": f"text-{word}", "chunk": 0, "tokens": i, "dropped": i % 3}
    return fields | {"kept": {"note": f"note-{word}"}}


def letter(shard_id, i):
    word = secret(shard_id, f"dead {i}")
    return {"doc_id": f"id-{word}", "payload": f"payload-{word}", "detail": f"detail-{word}"}


def make_in(folder, kind):
    """An output of one of FORMATS, and the head of its plan."""
    head = FORMATS[kind] | {"id_field": "id"}
    if "kept" not in head:
        head["kept"] = [["note", "string"]]
    made = outputs.make(folder / "out", row=row, letter=letter, **head)
    return made, outputs.HEAD | head


@pytest.fixture(scope="module", params=FORMATS)
def made(request, tmp_path_factory):
    return make_in(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def copy(made, tmp_path):
    shutil.copytree(made[0].path, tmp_path / "out")
    return tmp_path / "out"


def ids_of(made):
    return [one.doc_id for some in (made.rows, made.letters) for every in some.values() for one in every]


def quiet(_):
    pass


def check_gone(made, head, folder, gone):
    """Everything that the folder has to be when these ids are forgotten, against the truth."""
    output, schema = open_output(str(folder)), row_schema(head)
    assert output.complete
    config = WriteConfig(
        str(folder), made.job, head["output_format"], schema, {"k": "v"}, head["tfrecord_gzip"]
    )
    for receipt in output.receipts:
        kept = [one for one in made.rows[receipt.shard_id] if one.doc_id not in gone]
        dead = [one for one in made.letters[receipt.shard_id] if one.doc_id not in gone]
        file = io.BytesIO()
        rows.write(open_sink(config, file), kept, schema)
        part = folder / receipt.part
        assert part.read_bytes() == file.getvalue()  # as if the others had never been written
        letters = folder / layout.dead_letters(receipt.shard_id)
        assert letters.exists() == bool(dead)
        assert not dead or letters.read_bytes() == b"".join(map(letter_line, dead))
        documents = len(made.rows[receipt.shard_id]) + len(made.letters[receipt.shard_id])
        counts = (receipt.documents, receipt.rows, receipt.tokens, receipt.tokens_dropped, receipt.forgotten)
        tokens, dropped = sum(one.tokens for one in kept), sum(one.dropped for one in kept)
        left = documents - len(kept) - len(dead)
        assert counts == (documents, len(kept), tokens, dropped, left)
        assert receipt.dead_letters == ({"not JSON": len(dead)} if dead else {})
    known = gone & set(ids_of(made))
    manifest = output.manifest
    assert (
        manifest.documents
        == len(ids_of(made))
        == manifest.forgotten + manifest.rows + sum(manifest.dead_letters.values())
    )
    assert manifest.forgotten == len(known)
    assert manifest.output_bytes == sum(receipt.part_bytes for receipt in output.receipts)
    assert output.forgotten == {forgotten.digest(made.job, one) for one in known}
    assert list(find_defects(output)) == []
    assert traces(folder, {one.removeprefix("id-") for one in known}) == set()
    assert jobs.temporaries(folder) == []
    assert not (folder / layout.FORGET).exists()


def bytes_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_search_for_traces_finds_them(made, copy):
    [made, head] = made
    shard, other = made.shards[1], made.shards[2]
    part = next(copy.glob(f"part-{shard}*"))
    assert traces(copy, {secret(shard, 3)}) == {str(part)}
    assert traces(copy, {secret(other, "dead 1")}) == {str(copy / layout.dead_letters(other))}
    if head["output_format"] == "parquet":
        assert secret(shard, 3).encode() not in part.read_bytes()  # pages are compressed


def test_some_documents(made, copy):
    [made, head] = made
    shards = made.shards
    gone = {f"id-{secret(shards[1], i)}" for i in (0, 7, 19)} | {f"id-{secret(shards[2], 'dead 1')}"}
    before = bytes_of(copy)
    done = forget(str(copy), [*sorted(gone), "nobody"], quiet)
    named = ("ids", "documents", "rows", "dead_letters", "shards", "already", "not_found", "not_found_first")
    assert [done[name] for name in named] == [5, 4, 3, 1, 2, 0, 1, ["nobody"]]
    check_gone(made, head, copy, gone)
    after = bytes_of(copy)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    names = {layout.receipt(shards[1]), layout.receipt(shards[2]), layout.dead_letters(shards[2])}
    names |= {p.name for one in shards[1:] for p in copy.glob(f"part-{one}*")}
    assert changed <= names | {layout.MANIFEST, layout.FORGOTTEN, layout.LOCK}
    again = forget(str(copy), [*sorted(gone), "nobody"], quiet)
    assert [again[name] for name in named] == [5, 0, 0, 0, 0, 4, 1, ["nobody"]]
    assert bytes_of(copy) == after


def test_all_documents(made, copy):
    [made, head] = made
    forget(str(copy), ids_of(made), quiet)
    check_gone(made, head, copy, set(ids_of(made)))
    assert list(open_output(str(copy)).rows()) == []


def test_other_names_of_the_files_keep_what_they_had(made, copy, tmp_path):
    """A part may be hard-linked into another output, which is none of this one's business."""
    part = next(copy.glob("part-*"))
    os.link(part, tmp_path / "linked")
    before = part.read_bytes()
    forget(str(copy), ids_of(made[0]), quiet)
    assert (tmp_path / "linked").read_bytes() == before != part.read_bytes()


def test_what_was_made_of_the_rows_goes(made, copy):
    [made, head] = made
    index_of(open_output(str(copy)))
    names = ["_map/pca.parquet", "_projector/metadata.tsv", "_index/index.json", "_clusters/part.parquet"]
    names += ["_embedbeam/checks/part", "_embedbeam/tmp/part.killed"]
    foreign = ["_embedbeam/notes", "_mine.txt"]
    gone = f"id-{secret(made.shards[0], 5)}"
    for name in [*names, *foreign]:
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text(gone)
    done = forget(str(copy), [gone], quiet)
    assert [name for name in names if (copy / name).exists()] == []
    assert list((copy / "_embedbeam").glob("fingerprints*")) == []
    assert {one.split("-")[0] for one in done["deleted"]} == {
        *("_map", "_projector", "_index", "_clusters", "_embedbeam/checks", "_embedbeam/fingerprints")
    }
    assert done["unknown"] == foreign
    for name in foreign:
        (copy / name).unlink()
    check_gone(made, head, copy, {gone})


def test_documents_that_are_back_are_found_and_forgotten_again(made, copy):
    """A shard whose receipt somebody deletes is embedded anew, from an input that has the documents yet."""
    [made, head] = made
    gone = {f"id-{secret(made.shards[2], i)}" for i in (1, "dead 0")}
    forget(str(copy), sorted(gone), quiet)
    for name in (layout.receipt(made.shards[2]), layout.dead_letters(made.shards[2])):
        shutil.copy(made.path / name, copy / name)
    part = next(made.path.glob(f"part-{made.shards[2]}*"))
    shutil.copy(part, copy / part.name)
    said = [one for one in find_defects(open_output(str(copy))) if "forgotten" in one]
    assert [one.partition(":")[0] for one in said] == [layout.dead_letters(made.shards[2]), part.name]
    assert f"run `embedbeam forget {copy}`" in said[0]
    shutil.copy(made.path / layout.MANIFEST, copy / layout.MANIFEST)
    assert forget(str(copy), None, quiet)["documents"] == 2
    check_gone(made, head, copy, gone)


class Killed(BaseException):
    """Ends everything; and afterwards nothing can be changed any more."""


@contextlib.contextmanager
def killed_at(folder, count):
    """At the count-th change of the folder the process is dead: before it, or just after."""
    left, dead = count, False

    def wrap(original, at):
        def changing(*arguments, **named):
            nonlocal left, dead
            path = str(arguments[at])
            if dead:
                raise Killed
            if not path.startswith(str(folder)):
                return original(*arguments, **named)
            left -= 1
            if left <= 0 and count % 2:
                dead = True
                raise Killed
            done = original(*arguments, **named)
            if left <= 0:
                dead = True
                raise Killed
            return done

        return changing

    def opening(path, mode="r", *arguments, **named):
        if dead and "w" in mode:
            raise Killed
        return real_open(path, mode, *arguments, **named)

    real_open = builtins.open
    with pytest.MonkeyPatch.context() as patch:
        for name, at in (("replace", 1), ("link", 1), ("unlink", 0)):
            patch.setattr(os, name, wrap(getattr(os, name), at))
        patch.setattr(shutil, "rmtree", wrap(shutil.rmtree, 0))
        patch.setattr(builtins, "open", opening)
        yield


def check_readers(made, folder):
    """A reader sees, at any time, each document that is not forgotten once, a forgotten one once at most."""
    output = open_output(str(folder))
    rows_there = [one for block in output.rows(["doc_id"]) for one in block.column(0).to_pylist()]
    there = [*rows_there, *(one.doc_id for one in output.dead_letters())]
    assert len(set(there)) == len(there)
    defects = list(find_defects(output))
    begun = forgotten.begun(output.folder, made.job)
    if begun is None:
        assert defects == []
        return set(there)
    assert defects == [f"{layout.FORGET}: {forgotten.under_way(output.folder)}"]
    hashes = set(begun.hashes)
    return set(there) | {one for one in ids_of(made) if forgotten.digest(made.job, one) in hashes}


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.sets(st.integers(0, 62), max_size=20),
    second=st.sets(st.integers(0, 62), max_size=63),
    kills=st.lists(st.integers(1, 30), max_size=3),
    with_ids=st.booleans(),
)
@example(first=set(), second={0}, kills=[1], with_ids=True)
def test_killed_anywhere_it_ends_where_it_would_have(made, first, second, kills, with_ids):
    [made, head] = made
    every = ids_of(made)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "out"
        shutil.copytree(made.path, folder)
        if first:
            forget(str(folder), [every[i] for i in first], quiet)
        wanted = [every[i] for i in second]
        for number, count in enumerate(kills):
            begun = (folder / layout.FORGET).exists()
            given = wanted if with_ids or not begun else None
            with contextlib.suppress(Killed), killed_at(folder, count):
                forget(str(folder), given or ["nobody"], quiet)
            left = check_readers(made, folder)
            assert left >= {one for i, one in enumerate(every) if i not in first | second}, number
        forget(str(folder), wanted or ["nobody"], quiet)
        check_gone(made, head, folder, {every[i] for i in first | second})
        lines = (folder / layout.FORGOTTEN).read_text().splitlines() if first | second else []
        logged = [one for line in lines for one in json.loads(line)["hashes"]]
        assert len(logged) == len(set(logged)) == len(first | second)


def test_chunks_of_a_document_go_together(tmp_path):
    def chunk(shard_id, i):
        return {"doc_id": f"{shard_id}:{i // 4}", "chunk": i % 4, "start": i, "end": i + 1, "tokens": 3}

    made = outputs.make(tmp_path / "out", shards=1, row=chunk, long_documents="chunks")
    [shard_id] = made.shards
    receipt = open_output(str(made.path)).receipts[0]  # the fixture counts rows; five documents they are
    whole = dataclasses.replace(receipt, documents=5)
    (made.path / layout.receipt(shard_id)).write_text(json.dumps(dataclasses.asdict(whole)))
    forget(str(made.path), [f"{shard_id}:1", f"{shard_id}:4"], quiet)
    [receipt] = open_output(str(made.path)).receipts
    assert (receipt.documents, receipt.rows, receipt.forgotten, receipt.tokens) == (5, 12, 2, 36)
    left = [one for block in open_output(str(made.path)).rows(["doc_id"]) for one in block[0].to_pylist()]
    assert left == [f"{shard_id}:{i}" for i in (0, 2, 3) for _ in range(4)]


def test_what_cannot_be_done_is_told_and_changes_nothing(tmp_path):
    made = outputs.make(tmp_path / "part", shards=3, leave=1)
    with pytest.raises(UsageError, match="the job has not finished, and what is left of it may embed"):
        forget(str(made.path), [f"{made.shards[0]}:1"], quiet)
    with pytest.raises(UsageError, match="no job here"):
        forget(str(tmp_path / "nothing"), ["a"], quiet)
    assert not (tmp_path / "nothing").exists()
    made = outputs.make(tmp_path / "whole")
    with pytest.raises(UsageError, match="nothing was forgotten so far; give --ids FILE"):
        forget(str(made.path), None, quiet)
    part = made.path / f"part-{made.shards[0]}.parquet"
    sound = part.read_bytes()
    before = bytes_of(made.path)
    part.write_bytes(sound[:200] + bytes([sound[200] ^ 1]) + sound[201:])  # among the vectors
    with pytest.raises(LedgerError, match="not what its receipt says; nothing was changed"):
        forget(str(made.path), [f"{made.shards[0]}:1"], quiet)
    part.write_bytes(b"x" * len(sound))
    with pytest.raises(LedgerError, match=r"part-.*cannot be read: .*; `embedbeam verify .*` tells more"):
        forget(str(made.path), [f"{made.shards[0]}:1"], quiet)
    part.write_bytes(sound[:-1])
    with pytest.raises(LedgerError, match="nothing was changed, since the books of the job do not balance"):
        forget(str(made.path), [f"{made.shards[1]}:1"], quiet)
    part.write_bytes(sound)
    assert bytes_of(made.path) == before


@pytest.fixture
def output(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def ids(tmp_path):
    """Documents of a real job: of three files, a dead letter, and one that never was."""
    (tmp_path / "ids").write_text("a0\na1\nb50\nc99\nb13\nz1\n")
    return tmp_path / "ids"


def check_job(output, ids, corpus, model, cli):
    """Rows of a real job without these documents; and the job sees nothing left to do."""
    gone = set(ids.read_text().split())
    assert gone.isdisjoint(row["doc_id"] for row in jobs.rows(output))
    assert gone.isdisjoint(letter["doc_id"] for letter in jobs.letters(output))
    assert traces(output, {f"text {i[0]} {i[1:]} " for i in gone}) == set()
    manifest = jobs.manifest(output)
    assert (manifest["documents"], manifest["rows"], manifest["forgotten"]) == (300, 287, 5)
    code, out, err = cli("verify", output)
    assert (code, err) == (0, ""), out
    assert "287 rows, 8 dead letters, 5 forgotten: all as committed" in out
    before = jobs.files(output)
    code, out, err = cli("embed", f"--input={corpus}", f"--output={output}", f"--model={model}", *jobs.FLAGS)
    assert (code, err) == (0, "")
    assert "embedded 287 of 300 documents into 287 rows" in out
    assert "forgotten afterwards: 5 documents" in out
    assert jobs.files(output) == before


def test_what_reuses_the_output_finds_the_others(output, ids, corpus, model, cli, tmp_path):
    assert cli("forget", output, f"--ids={ids}")[0] == 0
    new, flags = tmp_path / "new", [f"--input={corpus}", f"--model={model}", "--shard-bytes=9000"]
    assert (
        cli(
            "embed", *flags, *jobs.FLAGS[:3], "--max-dead-letters=10%", f"--output={new}", f"--reuse={output}"
        )[0]
        == 0
    )
    manifest = jobs.manifest(new)
    assert (manifest["rows"], manifest["reused"], manifest["forgotten"]) == (291, 287, 0)


def test_through_the_front_door(output, ids, corpus, model, cli):
    report = (output / "_report.html").read_text()
    assert "a0" in report
    done = jobs.run(jobs.PYTHON, "-m", "pipeline", "forget", output, f"--ids={ids}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "forgot 5 documents: 4 rows and 1 dead letters in " in done.stdout
    assert "not there: 1 ids, e.g. 'z1'" in done.stdout
    assert "made anew: _report.html" in done.stdout
    assert "look at them: 3 dead letters are of records whose id could not be read" in done.stdout
    assert "the input may have them yet" in done.stdout
    check_job(output, ids, corpus, model, cli)
    code, out, _ = cli("forget", output, f"--ids={ids}", "--json")
    record = json.loads(out)
    assert (code, record["documents"], record["already"], record["not_found"]) == (0, 0, 5, 1)
    assert "forgotten   5 documents" in cli("status", output)[1]
    assert "the input" not in cli("forget", output)[1]


def test_documents_that_are_files_stay_in_the_plan(tmp_path, model, cli):
    (tmp_path / "in").mkdir()
    for name in ("ann", "bob"):
        (tmp_path / "in" / f"{name}.txt").write_text(f"about {name}")
    flags = [f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}", f"--model={model}"]
    assert cli("embed", *flags, "--quiet")[0] == 0
    (tmp_path / "ids.csv").write_text("id\nann.txt\n")
    code, out, _ = cli("forget", tmp_path / "out", f"--ids={tmp_path / 'ids.csv'}")
    assert (code, "1 of the ids are names of input files" in out) == (0, True)
    assert [row["doc_id"] for row in jobs.rows(tmp_path / "out")] == ["bob.txt"]


POINTS = [
    ("rename forget", 1),
    ("after rename forget", 1),
    ("after rename letters", 1),
    ("after rename part", 2),
    ("rename receipt", 3),
    ("after rename log", 1),
    ("delete forget", 1),
]


@pytest.mark.kill
@pytest.mark.slow
@pytest.mark.parametrize(("point", "count"), POINTS)
def test_killed_at_a_point(point, count, output, ids, corpus, model, cli):
    killed = jobs.run(jobs.PYTHON, jobs.KILL_AT, point, count, "forget", output, f"--ids={ids}")
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    begun = (output / layout.FORGET).exists()
    assert begun == (point != "rename forget")
    code, out, _ = cli("verify", output)
    assert (code, f"run `embedbeam forget {output}`" in out) == ((1, True) if begun else (0, False))
    if begun:
        embed = ["embed", f"--input={corpus}", f"--output={output}", f"--model={model}", *jobs.FLAGS]
        for command in (embed, ["finish", output]):
            code, _, err = cli(*command)
            assert (code, "documents are being forgotten, or were when a process died" in err) == (1, True)
        if not (output / "_SUCCESS").exists():
            assert "documents are being forgotten" in cli("status", output)[1]
            assert "documents are being forgotten" in cli("projector", output)[2]
    code, out, err = cli("forget", output, *([] if begun else [f"--ids={ids}"]))
    assert (code, err) == (0, ""), out
    assert "forgot 5 documents: 4 rows and 1 dead letters" in out
    check_job(output, ids, corpus, model, cli)


def test_a_folder_in_use_is_left_alone(output, ids, cli):
    from pipeline.run.output import output_lock
    from transforms.output.folder import Folder

    with output_lock(Folder(str(output))):
        code, _, err = cli("forget", output, f"--ids={ids}")
    assert (code, "another embedbeam is writing to it" in err) == (1, True)
    assert not (output / layout.FORGET).exists()


def test_overwriting_ends_what_was_begun(output, ids, corpus, model, cli):
    (output / layout.FORGET).write_text(json.dumps({"job": open_output(str(output)).plan.job} | {
        "time": "", "embedbeam": "", "hashes": [], "shards": [], "rows": 0, "dead_letters": 0, "forgotten": 0,
        "report": False,
    }))  # fmt: skip
    with pytest.raises(JobFailed, match="documents are being forgotten"):
        forgotten.check_ended(open_output(str(output)).folder, open_output(str(output)).plan.job)
    embed = ["embed", f"--input={corpus}", f"--output={output}", f"--model={model}", *jobs.FLAGS]
    assert cli(*embed, "--overwrite")[0] == 0
    assert cli("verify", output)[0] == 0
