"""Days of one corpus, to one without some documents: all by the console script, and by workers of Flink."""

import json
import sys
from pathlib import Path

import jobs
import pytest
import remote
from leftovers import traces

pytestmark = [pytest.mark.runners, pytest.mark.slow]
EMBEDBEAM = Path(sys.executable).with_name("embedbeam")


def document(name, text=None):
    return {"id": f"id-{name}-x", "text": text or f"text of qz{name}zq " + "and so on " * (len(name) % 3)}


def first_day():
    """Forty documents in each of three files, and a record that is none."""
    days = {f"{one}.jsonl": [document(f"{one}{i}") for i in range(40)] for one in "abc"}
    days["c.jsonl"].append({"id": "id-dead-x", "text": {"payload": "qzdeadzq"}})
    return days


def second_day():
    """Three documents came, two of which say the same; four changed, two went, five are in another file."""
    days = first_day()
    for i in range(4):
        days["a.jsonl"][i] = document(f"a{i}", f"another text of qza{i}zq")
    days["d.jsonl"], days["b.jsonl"] = days["b.jsonl"][:5], days["b.jsonl"][5:-2]
    days["c.jsonl"] += [document("new0"), document("new1"), document("new2", document("new1")["text"])]
    return days


FORGOTTEN = ["a20", "b3", "new0", "dead"]  # from a file that stayed, from the new one, new, a dead letter


def third_day():
    """What was forgotten is gone from the input; two documents came."""
    gone = {f"id-{name}-x" for name in FORGOTTEN}
    days = {name: [one for one in some if one["id"] not in gone] for name, some in second_day().items()}
    days["d.jsonl"] += [document("late0"), document("late1")]
    return days


def write(folder, days):
    """Files that are as they were keep their times."""
    for name, records in days.items():
        lines = "".join(json.dumps(one) + "\n" for one in records)
        if not (folder / name).exists() or (folder / name).read_text() != lines:
            jobs.write_jsonl(folder / name, records)


def texts(days):
    """Texts by id of the documents that have one."""
    return {one["id"]: one["text"] for some in days.values() for one in some if isinstance(one["text"], str)}


def check_rows(output, days):
    """Every document once, with the vector of its own text."""
    rows = jobs.rows(output)
    assert {row["doc_id"]: row["text"] for row in rows} == texts(days)
    assert len(rows) == len(texts(days))
    for row in rows[:: len(rows) // 10]:
        assert row["embedding"] == pytest.approx(jobs.expected_vector(row["text"]).tolist(), abs=1e-6)


def test_days(flink_cluster, model, save_model, tmp_path):
    there, before = [*flink_cluster.options(), *remote.PROCESS], len(flink_cluster.jobs())

    def script(command, *arguments):
        done = jobs.run(EMBEDBEAM, command, *arguments, "--json", "--quiet", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return json.loads(done.stdout)

    def embed(output, *more):
        flags = ["--input=in", "--id-field=id", "--keep-text", "--shard-bytes=1500", "--max-dead-letters=5%"]
        return script("embed", *flags, f"--model={model}", f"--output={output}", *there, *more)

    def counts(made):
        return [made[name] for name in ("rows", "reused", "copied", "embedded", "forgotten")]

    write(tmp_path / "in", first_day())
    assert counts(embed("day1")) == [120, 0, 0, 120, 0]
    write(tmp_path / "in", second_day())
    made = embed("day2", "--reuse=day1", "--duplicates=embed-once")
    assert counts(made) == [121, 114, 1, 6, 0]
    assert sum(made["dead_letters"].values()) == 1
    check_rows(tmp_path / "day2", second_day())
    assert script("verify", "day2", *there)["defects"] == []

    changes = script("diff", "day1", "day2", "--to=changes.parquet")
    states = {"same": 109, "moved": 5, "changed": 4, "added": 3, "removed": 2, "died": 0, "revived": 0}
    assert {name: changes[name] for name in states} == states
    assert changes["dead_letters"] == {"old": 1, "new": 1, "both": 1}

    assert script("publish", "day1", "--to=current")["previous"] is None
    assert script("publish", "day2", "--to=current")["previous"] == str(tmp_path / "day1")
    assert script("rollback", "current")["output"] == str(tmp_path / "day1")
    assert script("publish", "day2", "--to=current")["output"] == str(tmp_path / "day2")

    other = save_model(window=32)
    made = script("migrate", "current", f"--model={other}", "--output=other", "--shard-bytes=9000", *there)
    assert (made["documents"], made["rows"], made["reused"]) == (121, 121, 0)
    compared = script("compare", "day2", "other", "--sample=50", "--k=5")
    assert compared["documents"] == {"old": 121, "new": 121, "both": 121}
    assert compared["differing"] != []
    assert compared["cosine"]["mean"] == pytest.approx(1.0, abs=1e-6)  # no text is longer than a window

    (tmp_path / "ids").write_text("".join(f"id-{name}-x\n" for name in FORGOTTEN))
    done = script("forget", "current", "--ids=ids", *there)
    assert [done[name] for name in ("output", "documents", "rows", "dead_letters", "not_found")] == [
        *(str(tmp_path / "day2"), 4, 3, 1, 0)
    ]
    words = [word for name in FORGOTTEN for word in (f"id-{name}-x", f"qz{name}zq")]
    assert len(traces(tmp_path / "day1", words)) >= 3  # each folder needs its own
    assert traces(tmp_path / "day2", words) == set()
    assert script("verify", "current", *there)["forgotten"] == 4

    write(tmp_path / "in", third_day())
    made = embed("day3", "--reuse=current", "--duplicates=embed-once")
    assert counts(made) == [120, 118, 0, 2, 0]
    assert made["dead_letters"] == {}
    check_rows(tmp_path / "day3", third_day())
    assert traces(tmp_path / "day3", words) == set()
    assert script("verify", "day3", *there)["defects"] == []
    assert len(flink_cluster.jobs()) >= before + 9  # four that embed, three that verify, two that forget
