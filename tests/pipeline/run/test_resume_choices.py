"""A rerun that leaves options open takes what its job has, and loads its model so."""

import signal

import jobs
import pytest
import sounds
import text_models


def recordings(folder):
    for number in range(4):
        (folder / f"{number}.wav").write_bytes(sounds.encoded(sounds.wave(2 + number, seed=number)))
    model = sounds.save(sounds.Yamnet(rate=None), folder.parent / "model")
    return [f"--model={model}", "--model-output=output_1", "--shard-bytes=1000"], "--sample-rate=8000"


def texts(folder):
    for number in range(4):
        (folder / f"{number}.txt").write_text(f"text {number} has words")
    model = text_models.save_id_model(folder.parent / "model")
    return [f"--model={model}", "--shard-bytes=1"], "--dim=3"


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.parametrize("kind", [recordings, texts])
def test_a_rerun_takes_what_it_leaves_open_from_its_job(kind, tmp_path):
    (tmp_path / "in").mkdir()
    own, chosen = kind(tmp_path / "in")
    given = ["embed", f"--input={tmp_path / 'in'}", "--quiet", *own]
    output, straight = tmp_path / "out", tmp_path / "straight"
    killed = jobs.run(
        jobs.PYTHON, jobs.KILL_AT, "after rename receipt", 1, *given, f"--output={output}", chosen
    )
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    assert len(jobs.receipts(output)) == 1
    done = jobs.run(*jobs.EMBED, *given[1:], f"--output={output}")
    assert done.returncode == 0, done.stderr
    done = jobs.run(*jobs.EMBED, *given[1:], f"--output={straight}", chosen)
    assert done.returncode == 0, done.stderr
    assert jobs.files(output) == jobs.files(straight)
    assert len(jobs.files(output)) == 4
