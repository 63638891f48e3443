"""Scans by the workers of a real Flink cluster: what they find is what is found here."""

import numpy as np
import outputs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import remote

from benchmarks.synthetic import clouds, write_output

pytestmark = pytest.mark.runners


@pytest.fixture
def flags(flink_cluster):
    return [*flink_cluster.options(), *remote.PROCESS]


def test_verify(flags, tmp_path, cli):
    made = outputs.make(tmp_path / "out", shards=4)
    sound = cli("verify", made.path)
    assert sound == (0, f"{made.path}: 4 shards, 80 rows, 6 dead letters: all as committed\n", "")
    assert cli("verify", made.path, "--quiet", *flags) == sound
    parts = [made.path / f"part-{shard}.parquet" for shard in made.shards]
    pq.write_table(pq.read_table(parts[2]).slice(1), parts[2])
    parts[3].unlink()
    here = cli("verify", made.path)
    assert here[0] == 1
    assert here[1].count("defect: ") == 2
    assert cli("verify", made.path, "--quiet", *flags) == here
    assert not (made.path / "_embedbeam" / "checks").exists()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """An output of 3,000 rows in four parts."""
    path = tmp_path_factory.mktemp("scans") / "out"
    write_output(str(path), clouds(3000, 16, shards=4, kinds=6), dim=16, kept=[["kind", "int64"]])
    return path


def test_many_questions(many, flags, tmp_path, cli):
    vectors = np.random.default_rng(1).standard_normal((50, 16)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 16)
    pq.write_table(
        pa.table({"id": [f"q{i}" for i in range(50)], "embedding": column}), tmp_path / "q.parquet"
    )
    ask = ["search", many, "--queries", tmp_path / "q.parquet", "--id-field=id", "--k=7", "--quiet"]
    assert cli(*ask, "--to", tmp_path / "here")[0] == 0
    code, _, err = cli(*ask, "--to", tmp_path / "there", *flags)
    assert (code, err) == (0, "")
    here, there = (pq.read_table(tmp_path / to).to_pylist() for to in ("here", "there"))
    assert len(here) == 350
    assert there == here


def test_labels_of_clusters(many, flags, tmp_path, cli):
    group = ["cluster", many, "--k=6", "--quiet"]
    assert cli(*group, "--to", tmp_path / "here")[0] == 0
    code, _, err = cli(*group, "--to", tmp_path / "there", *flags)
    assert (code, err) == (0, "")
    names = sorted(path.name for path in (tmp_path / "here").glob("part-*"))
    assert len(names) == 4
    for name in names:
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
