"""Mini-batches in a real PyTorch, in an environment of its own."""

import json
import subprocess

import pytest
import torch_env
from jobs import ROOT

from benchmarks.synthetic import clouds, write_output

CODE = """
import json, sys
import torch
from torch.utils.data import DataLoader
import embedbeam

def epochs(workers, size=16, **how):
    data = embedbeam.batches(sys.argv[1], batch_size=size, columns=["doc_id", "kind"], seed=2,
                             shuffle=True, framework="torch", **how)
    found = []
    for _ in range(2):
        found.append([])
        for batch in DataLoader(data, batch_size=None, num_workers=workers):
            assert batch["embedding"].dtype == torch.float32 and batch["kind"].dtype == torch.int64
            assert batch["embedding"].shape == (len(batch["doc_id"]), 4)
            found[-1].append(batch["doc_id"])
    return found

how = {"seed": 2, "shuffle": True, "framework": "numpy"}
plain = embedbeam.batches(sys.argv[1], batch_size=16, columns=["doc_id"], **how)
print(json.dumps({
    "numpy": [[batch["doc_id"].tolist() for batch in plain] for _ in range(2)],
    "alone": epochs(0), "workers": epochs(2),
    "resumed": epochs(0, start=5), "later": epochs(2, start=5),
    "uneven": epochs(3, 11, balance="kind"), "tail": epochs(3, 11, balance="kind", start=19),
}))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_workers_share_the_rows_and_each_epoch_is_another(tmp_path):
    write_output(str(tmp_path / "out"), clouds(200, 4, shards=3), dim=4, kept=[["kind", "int64"]])
    command = [torch_env.python(), "-c", CODE, tmp_path / "out"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["alone"] == found["numpy"]
    assert found["resumed"] == [found["numpy"][0][5:], found["numpy"][1]]
    assert found["later"][0] == found["workers"][0][5:]
    assert list(map(len, found["uneven"])) == [20, 20]  # 6, 7 and 7: the last round has two
    assert found["tail"] == [found["uneven"][0][19:], found["uneven"][1]]
    everything = sorted(f"d{i}" for i in range(200))
    for epoch in found["workers"]:
        assert sorted(one for batch in epoch for one in batch) == everything
    assert found["workers"][0] != found["workers"][1]
