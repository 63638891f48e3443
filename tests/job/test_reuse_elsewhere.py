"""--reuse where the work is done elsewhere: on real clusters, in object stores, and after kills."""

import itertools
import json
import random
import shutil
import signal

import jobs
import numpy as np
import pyarrow as pa
import pytest
import remote
import stores
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transforms.output.reader import open_output

FLAGS = ["--id-field=id", "--keep-field=n", "--shard-bytes=3000", "--max-dead-letters=100%", "--quiet"]


def record(number, text=None):
    return {"id": f"d{number}", "text": text or f"text of {number} " + "word " * (number % 40), "n": number}


def write(folder, files):
    shutil.rmtree(folder, ignore_errors=True)
    for name, records in files.items():
        jobs.write_jsonl(folder / name, records)
    return folder


def rows(path):
    return pa.Table.from_batches(open_output(str(path)).rows()).to_pylist()


def check(new, fresh, *earlier):
    """The rows of a fresh run, and vectors that are those of an earlier output where it has them."""
    got, wanted = rows(new), rows(fresh)
    assert [row | {"embedding": None} for row in got] == [row | {"embedding": None} for row in wanted]
    taken = {
        row["fingerprint"]: row["embedding"] for path in reversed(earlier) for row in reversed(rows(path))
    }
    vectors = np.array([row["embedding"] for row in got], np.float32).reshape(len(got), -1)
    wanted = np.array([row["embedding"] for row in wanted], np.float32).reshape(len(got), -1)
    np.testing.assert_allclose(vectors, wanted, atol=1e-6)
    known = [i for i, row in enumerate(got) if row["fingerprint"] in taken]
    assert [got[i]["embedding"] for i in known] == [taken[got[i]["fingerprint"]] for i in known]
    made = manifest(new)
    assert (made["reused"], made["embedded"] + made["copied"]) == (len(known), len(got) - len(known))
    return made
    assert made["dead_letters"] == manifest(fresh)["dead_letters"]


def manifest(path):
    return json.loads(open_output(str(path)).folder.read("_embedbeam/manifest.json"))


def days(folder):
    """A corpus, and the same a day later: of three files one as it was, of the others all moved."""
    old = {"a.jsonl": [record(i) for i in range(150)], "b.jsonl": [record(i) for i in range(200, 330)]}
    shuffled = [*old["b.jsonl"][:100], record(310, "changed"), {"id": "bad", "text": 3}, record(500)]
    random.Random(3).shuffle(shuffled)
    write(folder / "in", old)
    return lambda: [
        (folder / "in" / "b.jsonl").unlink(),
        jobs.write_jsonl(folder / "in" / "c.jsonl", shuffled),
    ]


@pytest.mark.runners
@pytest.mark.slow
def test_on_flink(flink_cluster, model, tmp_path, cli):
    on_a_cluster(flink_cluster, model, tmp_path, cli)


@pytest.mark.runners
@pytest.mark.slow
def test_on_spark(spark_cluster, model, tmp_path, cli):
    on_a_cluster(spark_cluster, model, tmp_path, cli)


def on_a_cluster(cluster, model, tmp_path, cli):
    """The runner finds what is known; only the rest is embedded, and the folder is like any other."""
    change = days(tmp_path)
    command = ["embed", f"--input={tmp_path / 'in'}", f"--model={model}", *FLAGS]
    there = [*cluster.options(), *remote.PROCESS]
    assert cli(*command, f"--output={tmp_path / 'old'}") == (0, "", "")
    change()
    assert cli(*command, f"--output={tmp_path / 'fresh'}") == (0, "", "")
    reuse = [f"--reuse={tmp_path / 'old'}", f"--output={tmp_path / 'new'}"]
    code, _, err = cli(*command, *reuse, *there)
    assert (code, err) == (0, "")
    check(tmp_path / "new", tmp_path / "fresh", tmp_path / "old")
    taken = {one["written_by"] for one in jobs.receipts(tmp_path / "new")}
    assert taken == {"", open_output(str(tmp_path / "old")).plan.job}
    assert not (tmp_path / "new" / "_embedbeam" / "known").exists()
    assert list((tmp_path / "old" / "_embedbeam").glob("fingerprints-*")) == []  # no worker needed an index
    assert cli("verify", tmp_path / "new")[0] == 0


@pytest.mark.stores
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_in_a_store(kind, model, tmp_path):
    change = days(tmp_path)
    with stores.server(kind) as store:
        embed = [*jobs.EMBED, "--model", model, *FLAGS, "--input", tmp_path / "in"]

        def run(output, *more):
            done = jobs.run(*embed, "--output", store.url(output), *store.flags(), *more)
            assert done.returncode == 0, done.stderr

        run("old")
        change()
        run("fresh")
        run("new", "--reuse", store.url("old"))
        here = jobs.run(*embed, "--output", tmp_path / "here", "--reuse", store.url("old"), *store.flags())
        assert here.returncode == 0, here.stderr
        done = jobs.run(*jobs.EMBED[:-1], "verify", store.url("new"), *store.flags())
        assert done.returncode == 0, done.stdout + done.stderr
        objects = store.objects()
    for key, data in objects.items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(data)
    for new in ("new", "here"):
        check(tmp_path / new, tmp_path / "fresh", tmp_path / "old")
        assert len({one["written_by"] for one in jobs.receipts(tmp_path / new)}) == 2


POINTS = [
    "rename plan",
    "create part",
    "rename part",
    "after rename part",
    "rename receipt",
    "rename manifest",
]
IDS = itertools.count()
NUMBERS = st.integers(0, 60)
EDITS = st.one_of(
    st.tuples(st.just("add"), NUMBERS, st.integers(100, 140)),
    st.tuples(st.just("change"), NUMBERS, st.integers(0, 3)),
    st.tuples(st.just("remove"), NUMBERS, NUMBERS),
    st.tuples(st.just("move"), NUMBERS, NUMBERS),
    st.tuples(st.just("rename"), st.integers(0, 2), st.integers(0, 9)),
    st.tuples(st.just("reorder"), st.integers(0, 2), NUMBERS),
    st.tuples(st.just("duplicate"), NUMBERS, NUMBERS),
    st.tuples(st.just("die"), NUMBERS, NUMBERS),
)


def edited(files, edits):
    """A corpus after random edits: lists of records by the name of their file."""
    files = {name: list(records) for name, records in files.items()}
    for kind, one, other in edits:
        name = sorted(files)[one % len(files)]
        records, target = files[name], files[sorted(files)[other % len(files)]]
        at = one % len(records) if records else 0
        if kind == "add":
            records.insert(at, record(other) | {"id": f"new {next(IDS)}"})
        elif kind == "rename":
            files[f"{other}{name}"] = files.pop(name)
        elif kind == "reorder":
            random.Random(other).shuffle(records)
        elif not records:
            continue
        elif kind == "change":
            records[at] = records[at] | {"text": f"changed {other}"}
        elif kind == "die":
            records[at] = records[at] | {"text": None}
        elif kind == "duplicate":
            target.append(records[at] | {"id": f"copy {next(IDS)}"})
        else:
            gone = records.pop(at)
            if kind == "move":
                target.append(gone)
    return files


@pytest.mark.kill
@pytest.mark.slow
def test_random_edits_and_kills(model, tmp_path, cli):
    """Day after day: each output is made of the one before, and some of the runs are killed on their way."""
    base = {f"{name}.jsonl": [record(100 * i + n) for n in range(40)] for i, name in enumerate("abc")}
    days: list[dict] = [base]

    def command(output, *more):
        return [
            "embed",
            f"--input={tmp_path / 'in'}",
            f"--model={model}",
            f"--output={tmp_path / output}",
            *FLAGS,
            *more,
        ]

    write(tmp_path / "in", base)
    assert cli(*command("day0")) == (0, "", "")

    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(EDITS, max_size=6),
        st.one_of(st.none(), st.tuples(st.sampled_from(POINTS), st.integers(1, 4))),
        st.sampled_from(["each", "embed-once"]),
    )
    def another(edits, kill, duplicates):
        files = {name: records for name, records in edited(days[-1], edits).items() if records}
        old, new = f"day{len(days) - 1}", f"day{len(days)}"
        for path in (tmp_path / "in").iterdir():
            if path.name not in files:
                path.unlink()
        for name, records in files.items():
            lines = "".join(json.dumps(one) + "\n" for one in records)
            path = tmp_path / "in" / name
            if not path.exists() or path.read_text() != lines:  # else it stays as it is, with its time
                path.write_text(lines)
        shutil.rmtree(tmp_path / new, ignore_errors=True)
        shutil.rmtree(tmp_path / "fresh", ignore_errors=True)
        reuse = command(new, f"--reuse={tmp_path / old}", f"--duplicates={duplicates}")
        if kill:
            killed = jobs.run(jobs.PYTHON, jobs.KILL_AT, *kill, *reuse)
            assert killed.returncode in (-signal.SIGKILL, 99), killed.stderr
        code, _, err = cli(*reuse)
        assert (code, err) == (0, "")
        assert cli(*command("fresh")) == (0, "", "")
        made = check(tmp_path / new, tmp_path / "fresh", tmp_path / old)
        if duplicates == "embed-once":
            known = {row["fingerprint"] for row in rows(tmp_path / old)}
            assert made["embedded"] == len({row["fingerprint"] for row in rows(tmp_path / new)} - known)
        assert cli("verify", tmp_path / new)[0] == 0
        days.append(files)

    another()
