"""mteb itself runs one of our models on tiny tasks, in an environment that has torch."""

import json
import os
import subprocess

import jobs
import pytest
import torch_env

from transforms.errors import UsageError


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the first time it fetches torch
def test_mteb_runs_a_model(model, tmp_path):
    """Retrieval of each text by itself is perfect, and so are pairs and classes that are alike."""
    command = [torch_env.python(), jobs.ROOT / "tests" / "mteb_task.py", model, tmp_path / "cache"]
    alone = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "MTEB_CACHE": str(tmp_path / "mteb")}
    done = subprocess.run(
        [str(one) for one in command],
        env=jobs.environment() | os.environ | alone | {"PYTHONPATH": str(jobs.ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["protocol"]
    assert said["name"] == "embedbeam/m"
    from transforms.encoder.model.handle import digest, resolve

    assert said["revision"] == digest(resolve(model))
    assert said["scores"]["TinyRetrieval"] == 1
    assert said["scores"]["TinyClassification"] == 1
    # Three pairs of the score 1 lie before five of the score 0: ties make it less than 1.
    assert said["scores"]["TinySTS"] == pytest.approx(0.86, abs=0.05)


def test_without_mteb(model):
    import embedbeam

    with pytest.raises(UsageError, match=r"MtebEncoder needs mteb: pip install 'embedbeam\[mteb\]'"):
        embedbeam.MtebEncoder(model)
