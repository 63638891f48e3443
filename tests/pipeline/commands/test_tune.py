"""`embedbeam tune`: the real command finds something, remembers it, and `embed` takes it."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import jobs
import psutil
import pytest

from transforms.encoder import tuned
from transforms.encoder.device import available_cores, cpu_name
from transforms.encoder.model.handle import digest
from transforms.output import layout

TUNE = [sys.executable, "-m", "pipeline", "tune"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDBEAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tuned"


@pytest.fixture
def many(tmp_path):
    """30,000 words in three files."""
    for name in "abc":
        records = [
            {"id": f"{name}{i}", "text": f"text {i} of {name} " + "word " * (i % 14)} for i in range(950)
        ]
        jobs.write_jsonl(tmp_path / f"{name}.jsonl", records)
    return tmp_path / "*.jsonl"


def remembered(model, **values):
    found = {"batch_tokens": 37, "in_flight": 1, "intra_op": 1, "tokens_per_second": 9.0}
    found |= {"date": "2026-01-02", "tensorflow": "2.21.0"} | values
    machine = {"device": cpu_name(), "cores": available_cores()}
    return tuned.remember(tuned.Tuned(model_digest=digest(Path(model)), **machine, **found))


def head(output):
    return json.loads(Path(output, layout.PLAN).read_text().partition("\n")[0])


@pytest.mark.slow
def test_tune_finds_remembers_and_draws(many, model, tmp_path, cache):
    done = jobs.run(
        *(*TUNE, f"--input={many}", f"--model={model}", "--minutes=4", "--json", "--quiet"),
        f"--plot={tmp_path}/plot",
    )
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads(done.stdout)
    assert record["model_digest"] == digest(Path(model))
    assert (record["device"], record["cores"]) == (cpu_name(), available_cores())
    usual = {"batch_tokens": 1000, "in_flight": available_cores(), "intra_op": 1}
    assert record["usual"] == usual
    sound = [row for row in record["trials"] if row["repeats"]]
    assert {125, 250, 500, 1000} <= {row["batch_tokens"] for row in sound}
    assert len({row["intra_op"] for row in sound}) > 1 or available_cores() == 1
    assert max(row["repeats"] for row in sound) > 1
    for row in sound:
        assert 0 < row["first_quartile"] <= row["tokens_per_second"] <= row["third_quartile"]
        assert 0 < row["latency"] <= row["latency_p95"]
        assert row["peak_bytes"] > 50 << 20
        assert 0 <= row["waited"] <= 1
    [path] = [p for p in cache.iterdir() if p.suffix == ".json"]
    found = tuned.read(record["model_digest"], cpu_name(), available_cores())
    best = {name: getattr(found, name) for name in usual}
    assert (str(path), best) == (record["remembered"], record["best"])
    assert record["plots"] == [f"{tmp_path}/plot.png", f"{tmp_path}/plot.html"]
    assert all(os.path.getsize(plot) > 10_000 for plot in record["plots"])


@pytest.mark.slow
def test_memory_that_runs_out_is_survived(many, save_model, cache):
    model = save_model(fits=40)  # rows: at 16 tokens a text, of about 300 tokens
    done = jobs.run(*TUNE, f"--input={many}", f"--model={model}", "--minutes=4", "--json", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads(done.stdout)
    stopped = {row["batch_tokens"]: row["stopped"] for row in record["trials"] if row["in_flight"] > 1}
    assert stopped[125] is None
    assert "out of memory" in stopped.values()
    assert record["best"]["batch_tokens"] < max(stopped)


@pytest.mark.slow
def test_too_few_documents_tell_nothing(tmp_path, model, cache):
    jobs.write_jsonl(tmp_path / "a.jsonl", jobs.documents(5))
    done = jobs.run(*TUNE, f"--input={tmp_path}/a.jsonl", f"--model={model}")
    assert done.returncode == 0, done.stderr
    assert "too few to tell" in done.stdout
    assert "nothing is remembered" in done.stdout
    assert not cache.exists()


def start_and_wait_for_trials(many, slow_model, tmp_path):
    process = jobs.start(*TUNE, f"--input={many}", f"--model={slow_model}")
    jobs.wait_for(lambda: psutil.Process(process.pid).children(), process)
    [child] = psutil.Process(process.pid).children()
    jobs.wait_for(lambda: child.num_threads() > 4, process)  # TensorFlow is loaded
    return process, child


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_whatever_ends_it_leaves_no_process_and_nothing_written(
    many, slow_model, tmp_path, cache, number, code
):
    process, child = start_and_wait_for_trials(many, slow_model, tmp_path)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert "Traceback" not in err
    end = time.monotonic() + 30
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert not cache.exists()


@pytest.mark.slow
def test_a_process_of_trials_that_dies_is_told(many, slow_model, tmp_path, cache):
    process, child = start_and_wait_for_trials(many, slow_model, tmp_path)
    child.terminate()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "a process of trials ended with -15" in err.splitlines()[-1]


def test_embed_takes_what_was_tuned_and_says_so(tmp_path, corpus, model, cli):
    remembered(model)
    arguments = ["embed", f"--input={corpus}", f"--model={model}", "--id-field=id", "--max-dead-letters=10%"]
    code, _, err = cli(*arguments, f"--output={tmp_path}/tuned")
    assert code == 0
    cores = available_cores()
    assert err == (
        "embedbeam: mini-batches of 37 tokens, 1 in flight, as tuned on 2026-01-02 for this model on "
        f"{cpu_name()}, {cores} core{'' if cores == 1 else 's'}\n"
    )
    assert (head(tmp_path / "tuned")["batch_tokens"], head(tmp_path / "tuned")["intra_op"]) == (37, 1)
    err = cli(*arguments, f"--output={tmp_path}/own", "--batch-tokens=50")[2]
    assert err.startswith("embedbeam: mini-batches, 1 in flight, as tuned on 2026-01-02 for this model on ")
    assert head(tmp_path / "own")["batch_tokens"] == 50


def test_a_resume_takes_the_plans_not_what_was_tuned_since(tmp_path, corpus, model, cli):
    output = tmp_path / "out"
    arguments = ["embed", f"--input={corpus}", f"--model={model}", "--id-field=id", f"--output={output}"]
    arguments.append("--max-dead-letters=10%")
    assert cli(*arguments)[0] == 0
    before = jobs.files(output)
    for path in [*(output / layout.RECEIPTS).iterdir()][:1]:
        path.unlink()
    (output / layout.SUCCESS).unlink()
    remembered(model)
    code, _, err = cli(*arguments)
    assert (code, err) == (0, "")
    assert jobs.files(output) == before
    assert head(output)["batch_tokens"] == 1000


def test_mistakes_are_told_before_a_model_is_loaded(tmp_path, corpus, cli):
    assert cli("tune", f"--input={tmp_path}/none")[::2] == (
        2,
        f"embedbeam: error: --input {tmp_path}/none: matches no file; check the path (hidden files, names "
        "that begin with _ and the output folder are never read)\n",
    )
    for minutes in ("0", "-1", "nan", "soon"):
        code, _, err = cli("tune", f"--input={corpus}", f"--minutes={minutes}")
        assert (code, f"'{minutes}': expected a number of minutes, like 5 or 0.5" in err) == (2, True)
    code, _, err = cli("tune", f"--input={corpus}", f"--plot={tmp_path}/no/plot")
    assert (code, err) == (
        2,
        f"embedbeam: error: --plot {tmp_path}/no/plot: its folder is not there; make it first\n",
    )


def test_plots_without_their_library(tmp_path, corpus, cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = cli("tune", f"--input={corpus}", f"--plot={tmp_path}/plot")
    assert (code, err) == (
        2,
        "embedbeam: error: --plot plots need matplotlib: pip install 'embedbeam[plot]'\n",
    )
