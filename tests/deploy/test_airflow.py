"""The DAGs of deploy/airflow on a real Airflow: parsed, run, retried, refused."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time

import airflow_env
import jobs
import psutil
import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

DAGS = jobs.ROOT / "deploy" / "airflow"
# In place of the job: a little to one stream, then more than a megabyte to the other.
CHATTY = """
import sys
streams = {"stdout": sys.stdout, "stderr": sys.stderr}
much = next(a for a in sys.argv if a.startswith("--much=")).removeprefix("--much=")
little, = streams.keys() - {much}
print(f"{little} line", file=streams[little], flush=True)
for _ in range(10_000):
    print(f"{much} line", "x" * 100, file=streams[much])
"""
CHATTY_DAG = """
from airflow.sdk import DAG
from embedbeam_tasks import EmbedOperator, model_param, options_param, place

params = {
    "input": place("/in", "Input", ""),
    "output": place("/out", "Output", ""),
    "model": model_param(),
    "options": options_param(),
}
with DAG("chatty", params=params) as dag:
    for much in ("stdout", "stderr"):
        EmbedOperator(task_id=much, runner="DirectRunner", pipeline_options={"much": much})
"""

DONE_DAG = (
    CHATTY_DAG[: CHATTY_DAG.index("with DAG")]
    + """
with DAG("done", params=params) as dag:
    config = {"job_name": "embed-day", "append_job_name": False, "project_id": "my-project", "location": "r"}
    EmbedOperator(task_id="embed", runner="DataflowRunner", deferrable=True, dataflow_config=config)
"""
)


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """Runs `airflow` with a database, a pool and a home of embedbeam, all of their own."""
    folder = tmp_path_factory.mktemp("airflow")
    bin_folder = airflow_env.programs()
    home = folder / "home"
    home.mkdir()
    (home / ".venv").symlink_to(sys.prefix)
    (home / "deploy").symlink_to(jobs.ROOT / "deploy")
    settings = {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
        "AIRFLOW_VAR_EMBEDBEAM_HOME": str(home),
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",  # beside the DAGs
    }

    def run(*arguments, **changed):
        command = [str(bin_folder / "airflow"), *map(str, arguments)]
        environment = jobs.environment() | {"PYTHONPATH": ""} | settings | changed
        joined = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.run(command, env=environment, timeout=240, **joined)

    assert run("db", "migrate").returncode == 0
    assert run("pools", "set", "embedbeam", 1, "one job").returncode == 0
    return run


def dag_test(airflow, day, *, dag="embedbeam", **params):
    return airflow("dags", "test", dag, day, "--conf", json.dumps(params))


def write_input(folder, day, count):
    return jobs.write_jsonl(folder / "in" / day / "a.jsonl", jobs.documents(count))


def params_of(folder, model):
    options = {"id-field": "id", "keep-text": True, "shard-bytes": 2000, "batch-tokens": 40}
    return {
        "input": f"{folder}/in/{{date}}/*.jsonl",
        "output": f"{folder}/out",
        "model": str(model),
        "options": options,
    }


def test_both_dags_parse(airflow):
    assert airflow("dags", "reserialize").returncode == 0
    assert "No data found" in airflow("dags", "list-import-errors").stdout
    listed = airflow("dags", "list", "--columns", "dag_id", "--output", "plain").stdout
    assert {"embedbeam", "embedbeam_dataflow"} <= set(listed.split())


def test_each_day_takes_from_the_last_one_and_becomes_the_current_one(airflow, tmp_path, model, cli):
    params, out = params_of(tmp_path, model), tmp_path / "out"
    current, first, second = (out / name for name in ("current", "2026-01-05", "2026-01-06"))
    documents = jobs.documents(300)
    path = jobs.write_jsonl(tmp_path / "in" / first.name / "a.jsonl", documents)
    result = dag_test(airflow, first.name, **params)
    assert result.returncode == 0, result.stdout
    wanted = {d["id"]: d["text"] for d in documents}
    assert [(r["doc_id"], r["text"]) for r in jobs.rows(current)] == sorted(wanted.items())
    assert "300 rows, 0 dead letters: all as committed" in result.stdout
    assert current.resolve() == first
    assert not (out / "changes").exists()  # the first day has nothing to be compared with

    documents = [{"id": "new", "text": "a new document"}, *documents[:-1]]  # the last one is gone
    documents[8] = {"id": "d7", "text": "this one changed"}
    new = jobs.write_jsonl(tmp_path / "in" / second.name / "a.jsonl", documents)
    result = dag_test(airflow, second.name, **params)
    assert result.returncode == 0, result.stdout
    assert f"--reuse={first}" in result.stdout
    assert current.resolve() == second
    manifest = jobs.manifest(current)
    assert (manifest["rows"], manifest["reused"]) == (300, 298)
    before, after = ({r["doc_id"]: r["embedding"] for r in jobs.rows(day)} for day in (first, second))
    assert after.keys() == {d["id"] for d in documents}
    same = before.keys() & after.keys() - {"d7"}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    changes = pq.read_table(out / "changes" / f"{second.name}.parquet").to_pylist()
    assert sorted(changes, key=lambda row: row["state"]) == [
        change("added", "new", new=0),
        change("changed", "d7", old=place(path, "d7"), new=place(new, "d7")),
        change("removed", "d299", old=place(path, "d299")),
    ]

    # Not published where it does not verify.
    assert cli("rollback", current)[0] == 0
    part = next(second.glob("part-*.parquet"))
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    result = dag_test(airflow, second.name, **params)
    assert "embedbeam: verify of embedbeam failed for good at try 4" in result.stdout
    assert "is now" not in result.stdout
    assert current.resolve() == first


def place(path, doc_id):
    """The byte at which a document's line begins."""
    return path.read_bytes().index(f'{{"id": "{doc_id}"'.encode())


def change(state, doc_id, *, old=None, new=None):
    """A row of what `diff` writes."""
    return {
        "state": state,
        "doc_id": doc_id,
        "old_doc_id": None if old is None else doc_id,
        "old_source": None if old is None else "a.jsonl",
        "old_position": old,
        "source": None if new is None else "a.jsonl",
        "position": new,
        "reason": None,
    }


def test_a_retry_goes_on_where_the_killed_try_was(airflow, tmp_path, slow_model):
    write_input(tmp_path, "2026-01-06", 1500)
    output = tmp_path / "out" / "2026-01-06"
    committed = {}

    def kill_once():
        while len(list((output / "_embedbeam" / "receipts").glob("*.json"))) < 2:
            time.sleep(0.01)
        wanted = f"--output={output}"
        (job,) = (p for p in psutil.process_iter(["cmdline"]) if wanted in (p.info["cmdline"] or []))
        job.kill()
        job.wait(timeout=30)
        committed.update({r["shard_id"]: r for r in jobs.receipts(output)})

    killer = threading.Thread(target=kill_once, daemon=True)
    killer.start()
    result = dag_test(airflow, "2026-01-06", **params_of(tmp_path, slow_model))
    assert result.returncode == 0, result.stdout
    assert "Process exited with return code: -9" in result.stdout
    after = {r["shard_id"]: r for r in jobs.receipts(output)}
    assert 2 <= len(committed) < len(after)
    assert after.items() >= committed.items()  # their finish times too: nothing was done again
    assert [r["doc_id"] for r in jobs.rows(output)] == sorted(f"d{i}" for i in range(1500))


def test_a_mistake_is_not_retried_and_the_callback_tells(airflow, tmp_path, model):
    write_input(tmp_path, "2026-01-07", 3)
    params = params_of(tmp_path, model)
    params["options"] |= {"vector-dtype": "float99"}
    result = dag_test(airflow, "2026-01-07", **params)
    assert "expected one of" in result.stdout or "invalid choice" in result.stdout
    assert result.stdout.count("Running command: ") == 1
    assert "embedbeam: embed of embedbeam failed for good at try 1: the command is wrong" in result.stdout
    assert f"embedbeam status {tmp_path}/out/2026-01-07" in result.stdout
    assert "/dags/embedbeam/runs/" in result.stdout


PARAM_CHECK = """
import copy, json, sys
from airflow.sdk.exceptions import ParamValidationError
import embedbeam_dag
for wrong in json.loads(sys.argv[1]):
    params = copy.deepcopy(embedbeam_dag.dag.params)
    try:
        params.update(wrong)
        params.validate()
        print("accepted", wrong)
    except ParamValidationError as e:
        print("refused", *wrong)
"""


def test_params_are_checked_before_the_run():
    given = [
        {"input": "relative/path"},
        {"output": ""},
        {"model": "ftp://somewhere/model"},
        {"runner": "DataflowRunner"},
        {"options": {"output": "/elsewhere"}},
        {"options": {"Bad Name": 1}},
    ]
    python = airflow_env.programs() / "python"
    found = jobs.run(python, "-c", PARAM_CHECK, json.dumps(given), cwd=DAGS)
    said = [line for line in found.stdout.splitlines() if line.startswith(("refused", "accepted"))]
    assert said == [f"refused {name}" for wrong in given for name in wrong], found.stderr


def stub_home(folder, program):
    """A home of embedbeam with the real launch.py, and a program in place of the job."""
    (folder / "deploy" / "airflow").mkdir(parents=True)
    shutil.copy(DAGS / "launch.py", folder / "deploy" / "airflow")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "pipeline").mkdir()
    (folder / "pipeline" / "embed.py").write_text(program)
    return folder / "deploy" / "airflow" / "launch.py"


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's kernel")
def test_a_job_ends_with_its_task(tmp_path):
    launch = stub_home(tmp_path, "import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    task = "import subprocess, sys; subprocess.run([sys.executable, sys.argv[1], '--runner=DirectRunner'])"
    with jobs.start(jobs.PYTHON, "-c", task, launch) as process:
        job = psutil.Process(int(process.stdout.readline()))
        process.kill()
        job.wait(timeout=10)  # raises if it goes on


def test_a_dataflow_job_that_is_done_already_is_not_waited_for(airflow, tmp_path):
    stub_home(tmp_path, "print('all shards are committed')")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "done.py").write_text(DONE_DAG)
    places = {"AIRFLOW__CORE__DAGS_FOLDER": f"{tmp_path}/dags", "AIRFLOW_VAR_EMBEDBEAM_HOME": str(tmp_path)}
    connection = {"AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": "google-cloud-platform://"}
    result = airflow("dags", "test", "done", "2026-01-09", **places, **connection, PYTHONPATH=str(DAGS))
    assert result.returncode == 0, result.stdout[-5000:]
    assert "--runner=DataflowRunner --job_name=embed-day --project=my-project" in result.stdout


def test_a_job_that_writes_much_to_both_streams_does_not_hang(airflow, tmp_path):
    """The operator reads one stream to its end before the other: launch.py makes one of both."""
    stub_home(tmp_path, CHATTY)
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "chatty.py").write_text(CHATTY_DAG)
    places = {"AIRFLOW__CORE__DAGS_FOLDER": f"{tmp_path}/dags", "AIRFLOW_VAR_EMBEDBEAM_HOME": str(tmp_path)}
    result = airflow("dags", "test", "chatty", "2026-01-08", **places, PYTHONPATH=str(DAGS))
    assert result.returncode == 0, result.stdout[-5000:]
    assert result.stdout.count("Process exited with return code: 0") == 2
    assert {name: result.stdout.count(f"{name} line") for name in ("stdout", "stderr")} == {
        "stdout": 10_001,
        "stderr": 10_001,
    }


def test_beams_line_with_the_id_of_a_dataflow_job_reaches_the_operator():
    """The deferrable DAG learns the id from it; it passes with --verbose alone."""
    code = (
        "import logging, sys; from pipeline.cli import _guarded; from pipeline.run.screen import Screen\n"
        "name = 'apache_beam.runners.dataflow.internal.apiclient'\n"
        "say = logging.getLogger(name).info\n"
        "_guarded(lambda: say('Created job with id: [%s]', 'j-1') or 0, ['--verbose'], Screen())"
    )
    assert "Created job with id: [j-1]" in jobs.run(jobs.PYTHON, "-c", code).stderr
