"""kill -9 anywhere, the same command again: the same names, the same bytes."""

import random
import shutil
import signal
import time

import jobs
import pytest

POINTS = [
    ("rename plan", 1),
    ("after rename plan", 1),
    ("create letters", 1),
    ("create part", 2),
    ("sync part", 1),
    ("rename letters", 2),
    ("rename part", 1),
    ("after rename part", 3),
    ("rename receipt", 2),
    ("after rename receipt", 3),
    ("create manifest", 1),
    ("after rename manifest", 1),
    ("rename success", 1),
    ("after rename success", 1),
]


def command(corpus, model, output):
    return ["embed", f"--input={corpus}", f"--output={output}", f"--model={model}", *jobs.FLAGS]


def check_same(output, finished, cli):
    assert jobs.files(output) == jobs.files(finished)
    assert jobs.temporaries(output) == []
    listed = sorted(str(p.relative_to(output)) for p in output.rglob("*"))
    assert listed == sorted(str(p.relative_to(finished)) for p in finished.rglob("*"))
    code, text, err = cli("verify", output)
    assert (code, err) == (0, ""), text


@pytest.mark.kill
@pytest.mark.slow
@pytest.mark.parametrize(("point", "count"), POINTS)
def test_killed_at_a_commit_point(point, count, corpus, model, finished, tmp_path, cli):
    output = tmp_path / "out"
    killed = jobs.run(jobs.PYTHON, jobs.KILL_AT, point, count, *command(corpus, model, output))
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    assert (output / "_SUCCESS").exists() == (point == "after rename success")
    assert set(jobs.files(output).items()) <= set(jobs.files(finished).items())
    code, _, err = cli(*command(corpus, model, output))
    assert (code, err) == (0, "")
    check_same(output, finished, cli)


@pytest.mark.kill
@pytest.mark.slow
def test_killed_again_and_again(corpus, model, finished, tmp_path, cli):
    """A job that dies at each shard gets through in the end, and commits each shard once."""
    output = tmp_path / "out"
    seen = {}
    for _ in range(20):
        killed = jobs.run(
            jobs.PYTHON, jobs.KILL_AT, "after rename receipt", 6, *command(corpus, model, output)
        )
        times = {r["shard_id"]: r["finished"] for r in jobs.receipts(output)}
        assert times.items() >= seen.items()
        seen = times
        if killed.returncode != -signal.SIGKILL:
            break
    assert killed.returncode == 99, killed.stderr
    check_same(output, finished, cli)


@pytest.mark.kill
@pytest.mark.slow
@pytest.mark.parametrize("moment", range(4))
def test_killed_at_a_random_moment(moment, corpus, model, finished, tmp_path, cli):
    output = tmp_path / "out"
    with jobs.start(jobs.PYTHON, "-m", "pipeline", *command(corpus, model, output)) as process:
        if moment:
            jobs.wait_for((output / "_embedbeam" / "run.json").exists, process)
            time.sleep(random.Random(moment).uniform(0, 0.4))
        else:
            time.sleep(1)  # while TensorFlow is imported
        process.kill()
        process.wait()
    assert jobs.files(output).items() <= jobs.files(finished).items()
    assert cli("embed", *command(corpus, model, output)[1:])[0] == 0
    check_same(output, finished, cli)


@pytest.mark.kill
@pytest.mark.slow
def test_killed_while_starting_anew(corpus, model, finished, tmp_path, cli):
    """--overwrite deletes so that no receipt is ever left without its part."""
    output = tmp_path / "out"
    shutil.copytree(finished, output)
    killed = jobs.run(
        jobs.PYTHON, jobs.KILL_AT, "create plan", 1, *command(corpus, model, output), "--overwrite"
    )
    assert killed.returncode == -signal.SIGKILL
    assert list(jobs.files(output)) == jobs.receipts(output) == []
    assert cli(*command(corpus, model, output))[0] == 0
    check_same(output, finished, cli)
