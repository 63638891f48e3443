"""Scans by the workers of a real Flink cluster: what they find is what is found here."""

import outputs
import pyarrow.parquet as pq
import pytest
import remote

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
