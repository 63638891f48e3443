"""`embedbeam projector`, as a real TensorBoard serves it."""

import json
import subprocess
import sys
import time
import urllib.request
from urllib.error import URLError
from urllib.parse import quote

import jobs
import numpy as np
import outputs
import pytest

from benchmarks.synthetic import write_output
from pipeline.projector import METADATA, TENSORS
from transforms.output.reader import open_output


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("projector") / "out"
    random = np.random.default_rng(0)
    vectors = random.standard_normal((40, 6)).astype(np.float32)
    vectors[5] = 0
    some = {
        "doc_id": [f"d{i}" for i in range(40)],
        "vectors": vectors,
        "text": [f"a\ttab\nand {i} \u2028 lines \r here" for i in range(40)],
        "kind": [None if i == 3 else "" if i == 4 else f"k{i}" for i in range(40)],
    }
    write_output(str(path), [[some]], dim=6, keep_text=True, kept=[["kind", "string"]])
    return path


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/plugin/projector/{path}", timeout=60) as got:
        return got.read()


def test_tensorboard_lists_the_tensor_and_its_metadata(made, tmp_path, cli, free_port):
    code, out, err = cli("projector", made)
    assert (code, err) == (0, "")
    folder = made / "_projector"
    assert f"tensorboard --logdir {folder}" in out
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--port", free_port]
    with open(tmp_path / "log", "w") as log:
        server = jobs.start(*command, "--host", "127.0.0.1", "--load_fast", "false", stdout=log, stderr=log)
    try:
        end = time.monotonic() + 120
        while True:
            try:
                runs = json.loads(get(free_port, "runs"))
                break
            except (URLError, ConnectionError):
                assert server.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < end
                time.sleep(0.2)
        (run,) = runs
        (embedding,) = json.loads(get(free_port, f"info?run={quote(run)}"))["embeddings"]
        assert embedding["tensorName"] == "embeddings"
        assert embedding["tensorShape"] == [40, 6]
        assert embedding["metadataPath"] == METADATA
        asked = f"run={quote(run)}&name=embeddings"
        tensor = np.frombuffer(get(free_port, f"tensor?{asked}"), np.float32).reshape(40, 6)
        (_, expected), *_ = open_output(str(made)).vectors()
        np.testing.assert_allclose(tensor, expected, rtol=1e-6)
        lines = get(free_port, f"metadata?{asked}").decode().split("\n")[:-1]
        assert lines[0] == "doc_id\ttext\tkind"
        assert lines[1] == "d0\ta tab and 0 lines here\tk0"
        assert lines[4] == "d3\ta tab and 3 lines here\t "  # nothing is a space
        assert len(lines) == 41
    finally:
        server.terminate()
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def test_a_single_column_has_no_header(tmp_path, cli):
    outputs.make(tmp_path / "out", shards=2, per_shard=5)
    code, out, _ = cli("projector", tmp_path / "out", "--to", tmp_path / "p", "--sample", "3", "--json")
    assert code == 0
    assert json.loads(out) == {"folder": str(tmp_path / "p"), "points": 3, "rows": 10, "dim": 3}
    ids = (tmp_path / "p" / METADATA).read_text().splitlines()
    assert len(ids) == 3
    assert all(":" in one for one in ids)
    assert len((tmp_path / "p" / TENSORS).read_text().splitlines()) == 3


def test_what_projector_refuses(tmp_path, cli):
    outputs.make(tmp_path / "part", shards=3, leave=1)
    for arguments, words in (
        ([tmp_path / "part"], "the job has not finished"),
        ([tmp_path / "part", "--partial", "--sample", "0"], "--sample 0: expected 1 to 100,000"),
    ):
        code, _, err = cli("projector", *arguments)
        assert (code, words in err, err.count("\n")) == (2, True, 1), err
