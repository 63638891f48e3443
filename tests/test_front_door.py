"""The console script in fresh processes: what a test's own warm process would hide."""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from jobs import run

EMBEDBEAM = Path(sys.executable).parent / "embedbeam"


def test_parquet_input_in_a_process_that_has_no_pyarrow_yet(tmp_path, model):
    pq.write_table(pa.table({"text": ["one text", "another"]}), tmp_path / "in.parquet")
    done = run(
        EMBEDBEAM, "embed", "--input", tmp_path / "in.parquet", "--output", tmp_path / "out", "--model", model
    )
    assert done.returncode == 0, done.stderr
    assert pq.read_table(tmp_path / "out").column("doc_id").to_pylist() == ["in.parquet:0", "in.parquet:1"]
