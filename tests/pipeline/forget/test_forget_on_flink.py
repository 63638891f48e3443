"""Documents forgotten by the workers of a real Flink cluster: what is left is what is left of it here."""

import json
import shutil
import sys
from pathlib import Path

import jobs
import pytest
import remote
from leftovers import traces

pytestmark = [pytest.mark.runners, pytest.mark.slow]
EMBEDBEAM = Path(sys.executable).with_name("embedbeam")


def word(i):
    """Of one document alone, and of no number in hexadecimal."""
    return f"qz{i}zq"


@pytest.fixture(scope="module")
def made(tmp_path_factory, model):
    """200 documents: of each ten one is a dead letter, and one is left out since another says the same."""
    folder = tmp_path_factory.mktemp("forget")
    records = [{"id": f"id-{word(i)}", "text": f"text-{word(i)} " + "word " * (i % 20)} for i in range(200)]
    for i in range(0, 200, 10):
        records[i + 3]["text"] = {"none": f"payload-{word(i + 3)}"}
        records[i + 7]["text"] = records[i + 5]["text"]
    jobs.write_jsonl(folder / "in.jsonl", records)
    flags = ["--id-field=id", "--keep-text", "--shard-bytes=1500", "--max-dead-letters=20%"]
    embed = [EMBEDBEAM, "embed", f"--input={folder / 'in.jsonl'}", f"--model={model}", *flags, "--quiet"]
    done = jobs.run(*embed, f"--output={folder / 'out'}", "--duplicates=keep-first")
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "out"


def files(folder):
    """Bytes of all files, less what says when it was made."""
    paths = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    found = {name: path.read_bytes() for name, path in paths.items() if name != "_report.html"}
    log = json.loads(found.pop("_embedbeam/forgotten.jsonl"))
    return found | {"log": log | {"time": ""}}


def test_forget(made, flink_cluster, tmp_path, cli):
    here, there = (shutil.copytree(made, tmp_path / name) for name in ("here", "there"))
    # Two rows, one of them the first of two that say the same; a dead letter, a left-out copy.
    gone = [21, 105, 33, 157]
    (tmp_path / "ids").write_text("".join(f"id-{word(i)}\n" for i in [*gone, 999]))
    command = [EMBEDBEAM, "forget", f"--ids={tmp_path / 'ids'}", "--json", "--quiet"]
    done = jobs.run(*command, here)
    assert (done.returncode, done.stderr) == (0, "")
    flags = [*flink_cluster.options(), *remote.PROCESS]
    before = len(flink_cluster.jobs())
    done_there = jobs.run(*command, there, *flags)
    assert (done_there.returncode, done_there.stderr) == (0, "")
    assert len(flink_cluster.jobs()) == before + 2
    record, wanted = json.loads(done_there.stdout), json.loads(done.stdout)
    assert record == wanted | {"output": str(there)}
    names = ("ids", "documents", "rows", "dead_letters", "not_found_first")
    assert [record[name] for name in names] == [5, 4, 2, 1, [f"id-{word(999)}"]]
    assert files(there) == files(here)
    # The text that both said is gone with the first; the other's id was left out, and stays.
    words = [f"{what}-{word(i)}" for i in gone for what in ("id", "text", "payload")]
    assert len(traces(made, words)) >= 5
    assert traces(there, words) == set()
    assert len(traces(there, [f"id-{word(107)}"])) == 1
    assert not (there / "_embedbeam" / "errands").exists()
    assert jobs.temporaries(there) == []
    assert cli("verify", there)[0] == 0
    again = jobs.run(*command, there, *flags)
    assert json.loads(again.stdout)["already"] == 4
    assert files(there) == files(here)


def test_killed_and_ended_by_the_cluster(made, flink_cluster, tmp_path, cli):
    """The launcher dies before the second of its jobs; what it had begun is ended without the ids."""
    out = shutil.copytree(made, tmp_path / "out")
    (tmp_path / "ids").write_text(f"id-{word(21)}\nid-{word(33)}\n")
    flags = [*flink_cluster.options(), *remote.PROCESS, "--quiet"]
    kill_at = [jobs.PYTHON, jobs.ROOT / "tests" / "kill_at.py", "after rename forget", 1]
    assert jobs.run(*kill_at, "forget", out, f"--ids={tmp_path / 'ids'}", *flags).returncode == -9
    assert (out / "_embedbeam" / "forget.json").exists()
    code, said, err = cli("forget", out, *flags)
    assert (code, err) == (0, "")
    assert said.startswith(
        "what an earlier command had begun was ended\nforgot 2 documents: 1 rows and 1 dead"
    )
    assert traces(out, [f"id-{word(21)}", f"text-{word(21)}", word(33)]) == set()
    assert cli("verify", out)[0] == 0
