"""From one day's output to the next under one name, through the real console script."""

import json
import os
import sys
import threading
from pathlib import Path

import jobs
import pytest

import embedbeam
from pipeline.publish import publish
from transforms.output.reader import Output

pytestmark = pytest.mark.slow
COMMON = {"id_field": "id", "keep_field": ["day"], "shard_bytes": 500, "quiet": True}


@pytest.fixture(scope="module")
def days(tmp_path_factory, model):
    """A folder with day1 and day2: 20 texts each, of which 10 are in both."""
    folder = tmp_path_factory.mktemp("days")
    for day, first in (("day1", 0), ("day2", 10)):
        documents = [
            {"id": f"{day}-{i}", "text": f"text number {i}", "day": day} for i in range(first, first + 20)
        ]
        jobs.write_jsonl(folder / f"{day}.jsonl", documents)
        embedbeam.embed(input=str(folder / f"{day}.jsonl"), output=str(folder / day), model=model, **COMMON)
    return folder


@pytest.fixture
def here(days, tmp_path, monkeypatch):
    """A folder where nothing is published yet."""
    for day in ("day1", "day2"):
        os.symlink(days / day, tmp_path / day)
        os.symlink(days / f"{day}.jsonl", tmp_path / f"{day}.jsonl")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_real_commands(here, days, model, cli):
    """Fresh processes where a user starts them; what looks at the result is in this one."""

    def script(*arguments):
        done = jobs.run(Path(sys.executable).with_name("embedbeam"), *arguments, "--json", "--quiet")
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return json.loads(done.stdout)

    def near(doc):
        code, out, err = cli("search", "current", "text number 15", "--k=1", "--json")
        assert (code, err, json.loads(out)["results"][0]["doc_id"]) == (0, "", doc)

    assert cli("publish", "day1", "--to=current")[0] == 0
    assert script("publish", "day2", "--to=current")["output"] == str(days / "day2")
    assert script("search", "current", "text number 15", "--k=1")["results"][0]["doc_id"] == "day2-15"
    code, out, _ = cli("report", "current", "--json")
    assert (code, json.loads(out)["report"]) == (0, str(days / "day2" / "_report.html"))
    back = script("rollback", "current")
    assert (back["output"], back["previous"]) == (str(days / "day1"), str(days / "day2"))
    near("day1-15")
    flags = ["--input=day2.jsonl", f"--model={model}", "--id-field=id", "--keep-field=day"]
    made = script("embed", *flags, "--output=day3", "--reuse=current")
    assert (made["rows"], made["reused"]) == (20, 10)
    code, out, _ = cli("embed", *flags, "--output=current", "--json")
    refused = json.loads(out)
    assert (code, refused["argument"], refused["exit_code"]) == (2, "output", 2)
    assert refused["error"].startswith("--output current: is the name of the current output")
    assert cli("verify", "day1")[0] == cli("verify", "day3")[0] == 0


def test_a_search_stays_with_the_output_that_it_began_with(here, cli, monkeypatch):
    publish("day1", "current", 5)
    part, published, lock = Output.part, [], threading.Lock()  # parts are read by several threads

    def during(output, *args, **kwargs):
        with lock:
            if not published:
                published.append(publish("day2", "current", 5))
        return part(output, *args, **kwargs)

    monkeypatch.setattr(Output, "part", during)
    for day in ("day1", "day2"):
        code, out, err = cli("search", "current", "text number 15", "--k=20", "--json")
        assert (code, err) == (0, "")
        assert [one["day"] for one in json.loads(out)["results"]] == [day] * 20
    assert published[0]["output"] == os.path.realpath("current")


def test_from_python(here):
    """The front door's readers follow the name."""
    publish("day1", "current", 5)
    publish("day2", "current", 5)
    assert embedbeam.open_output("current").count == 20
    batches = embedbeam.batches("current", batch_size=8, columns=["doc_id"], framework="numpy")
    seen = [doc for batch in batches for doc in batch["doc_id"]]
    assert sorted(map(str, seen)) == sorted(f"day2-{i}" for i in range(10, 30))
