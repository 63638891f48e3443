"""What changed between two outputs, by hand and by the real command."""

import collections
import json
import sys
from pathlib import Path

import duckdb
import jobs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.diff import load, pair

COLUMNS = ["place", "doc_id", "source", "position", "fingerprint"]


def tables(documents, dead):
    if documents:
        columns = [list(column) for column in zip(*documents, strict=True)]
        yield [pa.table([list(range(len(documents))), *columns], COLUMNS)]
    else:
        yield []
    yield [pa.table([[one], ["why"]], ["doc_id", "reason"]) for one in dead]


def states(old, new, old_dead=(), new_dead=()):
    with duckdb.connect(":memory:") as database:
        for name, documents, dead in (("old", old, old_dead), ("new", new, new_dead)):
            load(database, name, *tables(documents, dead))
        pair(database)
        return sorted(database.execute("SELECT * FROM pairs").fetchall(), key=str)


def by_hand(old, new, old_dead, new_dead):
    """The same rule in plain Python."""
    found, left = [], ({*range(len(old))}, {*range(len(new))})
    for state, key in (
        ("same", lambda row: (row[0], row[1], row[3])),
        ("moved", lambda row: (row[0], row[3])),
        ("changed", lambda row: row[0]),
        ("moved", lambda row: row[3]),
    ):
        waiting = collections.defaultdict(collections.deque)
        for place in sorted(left[0]):
            waiting[key(old[place])].append(place)
        for place in sorted(left[1]):
            if waiting[key(new[place])]:
                found.append((state, waiting[key(new[place])].popleft(), place))
        for _, one, other in found:
            left[0].discard(one)
            left[1].discard(other)
    found += [("died" if old[i][0] in new_dead else "removed", i, None) for i in left[0]]
    found += [("revived" if new[i][0] in old_dead else "added", None, i) for i in left[1]]
    return sorted(found, key=str)


IDS = st.sampled_from("abcd")
ROWS = st.lists(
    st.tuples(IDS, st.sampled_from("fg"), st.integers(0, 2), st.sampled_from([b"1" * 16, b"2" * 16])),
    max_size=8,
)


@given(ROWS, ROWS, st.sets(IDS), st.sets(IDS))
def test_as_by_hand(old, new, old_dead, new_dead):
    assert states(old, new, old_dead, new_dead) == by_hand(old, new, old_dead, new_dead)


@pytest.fixture(scope="module")
def embedbeam():
    script = Path(sys.executable).with_name("embedbeam")
    return lambda *arguments, **kwargs: jobs.run(script, *arguments, **kwargs)


def embed(folder, model, name, files, *flags):
    for file, records in files.items():
        jobs.write_jsonl(folder / name / file, records)
    command = [*jobs.EMBED, "--input", folder / name, "--output", folder / f"{name}-out", "--model", model]
    done = jobs.run(*command, "--id-field=id", "--max-dead-letters=100%", "--quiet", *flags)
    assert done.returncode == 0, done.stderr
    return folder / f"{name}-out"


def record(number, text=None):
    return {"id": f"d{number}", "text": text or f"text {number}"}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("diff")
    dead = [{"id": "bad", "text": 5}, {"id": "mended", "text": None}]
    old = {"a.jsonl": [*map(record, range(6)), *dead], "b.jsonl": [*map(record, range(6, 9)), record(20)]}
    new = {
        "a.jsonl": [record(0), record(1, "another text"), record(2), record("x", "text 8"), record("new")],
        "c.jsonl": [record(6), record("mended"), {"id": "bad", "text": 5}, {"id": "d20", "text": 7}],
    }
    new["c.jsonl"][1]["id"] = "mended"
    flags = ["--long-documents=chunks", "--max-tokens=8", "--chunk-overlap=0"]
    return (
        folder,
        embed(folder, model, "old", old),
        embed(folder, model, "new", new),
        embed(folder, model, "other", new, *flags),
    )


def test_the_command(embedbeam, outputs):
    folder, old, new, _ = outputs
    done = embedbeam("diff", old, new, "--to=changes.parquet", "--json", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    made = json.loads(done.stdout)
    assert {
        name: made[name] for name in ("same", "moved", "changed", "added", "removed", "died", "revived")
    } == {
        "same": 2,  # d0, d2
        "moved": 2,  # d6 to another file, d8 under another name
        "changed": 1,
        "added": 1,
        "removed": 4,  # d3, d4, d5, d7
        "died": 1,
        "revived": 1,
    }
    assert made["dead_letters"] == {"old": 2, "new": 2, "both": 1}
    assert made["differing"] == []
    rows = {row["doc_id"]: row for row in pq.read_table(folder / "changes.parquet").to_pylist()}
    assert {name: row["state"] for name, row in rows.items()} == {
        "d1": "changed", "dx": "moved", "dnew": "added", "d6": "moved", "mended": "revived",
        "d3": "removed", "d4": "removed", "d5": "removed", "d7": "removed", "d20": "died",
    }  # fmt: skip
    place = ("old_doc_id", "old_source", "old_position", "source", "position")
    assert [rows["dx"][name] for name in place[:2]] == ["d8", "b.jsonl"]
    assert rows["dx"]["source"] == "a.jsonl"
    assert rows["dnew"]["old_source"] is None
    assert "text" in rows["d20"]["reason"]
    assert (old.name, sorted(path.name for path in folder.glob("*.tmp"))) == ("old-out", [])


def test_in_words_and_the_same_twice(embedbeam, outputs):
    folder, old, _, _ = outputs
    done = embedbeam("diff", old, old, cwd=folder)
    assert done.returncode == 0
    assert [line.split() for line in done.stdout.splitlines()[:2]] == [["10", "same"], ["0", "moved"]]


def test_other_options_are_named(embedbeam, outputs):
    folder, _, new, other = outputs
    done = embedbeam("diff", new, other, cwd=folder)
    assert done.stdout.splitlines()[0].startswith(
        "the jobs differ in chunk_overlap, long_documents, max_tokens: "
    )
    assert ["7", "changed"] in [line.split() for line in done.stdout.splitlines()]


def test_mistakes(embedbeam, outputs, tmp_path):
    folder, old, _, _ = outputs
    done = embedbeam("diff", old, tmp_path, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no job here" in done.stderr
    done = embedbeam("diff", tmp_path, old, cwd=folder)
    assert (done.returncode, str(tmp_path) in done.stderr) == (2, True)
    done = embedbeam("diff", old, old, f"--to={tmp_path}", cwd=folder)
    assert (done.returncode, "is a folder" in done.stderr) == (2, True)
