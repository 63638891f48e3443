"""Scans: every part once, gone on with where they were, made anew with other choices."""

import argparse
import dataclasses
import json
from pathlib import Path

import apache_beam as beam
import outputs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipeline.commands.verify import _on_cluster
from pipeline.run.output import output_lock
from pipeline.run.screen import Screen
from pipeline.scan.run import run_scan
from pipeline.scan.steps import build_scan
from pipeline.scan.work import Scan
from transforms.errors import JobFailed, LedgerError, UsageError
from transforms.output.folder import Folder
from transforms.output.ledger import contents
from transforms.output.reader import open_output


@dataclasses.dataclass(frozen=True)
class First:
    """The first number of each vector, times a factor; fails at a part, and notes which it has done."""

    factor: float = 1.0
    fails_at: str = ""
    notes: str = ""
    fails: type[Exception] = JobFailed
    name: str = "first"

    @property
    def choices(self):
        return {"factor": self.factor}

    @property
    def schema(self):
        return pa.schema([("doc_id", pa.string()), ("value", pa.float64())])

    def part(self, output, name):
        if name == self.fails_at:
            raise self.fails("a bad part")
        if self.notes:
            with open(self.notes, "a") as f:
                f.write(f"{name}\n")
        for block in output.part(name, ["doc_id", "embedding"], block_rows=7):
            values = [row[0] * self.factor for row in block.column(1).to_pylist()]
            yield pa.record_batch([block.column(0), pa.array(values)], schema=self.schema)


@pytest.fixture
def made(tmp_path):
    return outputs.make(tmp_path / "out", shards=4)


@pytest.fixture
def scan(made, tmp_path):
    """Runs a work over the output; returns its results."""
    args = argparse.Namespace(
        runner="DirectRunner", shared_filesystem=False, beam_args=[], screen=Screen(quiet=True)
    )
    yield lambda work, target=tmp_path / "to": run_scan(open_output(str(made.path)), str(target), work, args)
    args.screen.close()


def expected(made, factor=1.0):
    rows = [row for shard in made.shards for row in made.rows[shard]]
    return [{"doc_id": row.doc_id, "value": row.vector[0] * factor} for row in rows]


def found(results):
    return [row for block in results.blocks() for row in block.to_pylist()]


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def test_results_of_every_row_in_the_order_of_the_rows(made, scan, tmp_path):
    results = scan(First())
    assert found(results) == expected(made)
    ids = sorted(made.shards)
    assert sorted(tree(tmp_path / "to")) == sorted(
        [
            "_SUCCESS",
            "_embedbeam/lock",
            "_embedbeam/scan.json",
            *(f"_embedbeam/receipts/{one}.json" for one in ids),
            *(f"part-{one}.parquet" for one in ids),
        ]
    )
    table = pa.parquet.read_table(tmp_path / "to")  # as anybody reads it
    assert sorted(table.to_pylist(), key=str) == sorted(expected(made), key=str)


def test_goes_on_where_it_was(made, scan, tmp_path):
    """The parts that were done are not done again, and the results are those of a scan that never stopped."""
    notes = tmp_path / "notes"
    third = f"part-{made.shards[2]}.parquet"
    with pytest.raises(JobFailed, match="a bad part"):
        scan(First(fails_at=third, notes=str(notes)))
    assert not (tmp_path / "to" / "_SUCCESS").exists()
    assert list((tmp_path / "to" / "_embedbeam" / "tmp").glob("*")) == []
    assert found(scan(First(notes=str(notes)))) == expected(made)
    assert notes.read_text().split() == [f"part-{one}.parquet" for one in made.shards]
    scan(First(notes=str(notes)))
    assert len(notes.read_text().split()) == 4
    scan(First(), tmp_path / "other")
    parts = [
        {name: data for name, data in tree(tmp_path / folder).items() if name.startswith("part-")}
        for folder in ("to", "other")
    ]
    assert parts[0] == parts[1]


def test_a_mistake_in_the_middle_leaves_the_folder_the_scans(made, scan, tmp_path):
    notes = tmp_path / "notes"
    third = f"part-{made.shards[2]}.parquet"
    with pytest.raises(UsageError, match="a bad part"):
        scan(First(fails_at=third, notes=str(notes), fails=UsageError))
    assert found(scan(First(notes=str(notes)))) == expected(made)
    assert notes.read_text().split() == [f"part-{one}.parquet" for one in made.shards]


def test_other_rows_make_all_anew(made, scan, tmp_path):
    """A shard that was made once more has the same name, and other bytes."""
    before = scan(First()).identity
    path = made.path / "_embedbeam" / "receipts" / f"{made.shards[1]}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"part_sha256": "0" * 64}))
    assert scan(First()).identity != before


def test_a_second_check_leaves_the_first_ones_results(made, tmp_path):
    output = open_output(str(made.path))
    args = argparse.Namespace(
        runner="DirectRunner", shared_filesystem=False, beam_args=[], screen=Screen(quiet=True)
    )
    results = made.path / "_embedbeam" / "checks"
    with output_lock(Folder(str(results))):
        (results / "part").write_text("of the first")
        with pytest.raises(JobFailed, match="another embedbeam is writing to it"):
            list(_on_cluster(output, output.receipts, args))
        assert (results / "part").exists()
        (results / "part").unlink()
    assert [defects for defects, _ in _on_cluster(output, output.receipts, args)] == [[]] * 4
    assert not results.exists()
    args.screen.close()


def test_parts_that_are_gone_at_the_end(made, scan, tmp_path, monkeypatch):
    """Another process, on another machine, has begun anew in the folder."""
    monkeypatch.setattr(Scan, "left", lambda self, receipts: [(receipts[0].shard_id, receipts[0].part)])
    with pytest.raises(LedgerError, match="1 parts have no results; run the same command again"):
        scan(First())


def test_other_choices_make_all_anew(made, scan, tmp_path):
    scan(First())
    assert found(scan(First(factor=2.0))) == expected(made, 2.0)
    assert json.loads((tmp_path / "to/_embedbeam/scan.json").read_text())["choices"] == {"factor": 2.0}


def test_another_job_in_the_output_makes_all_anew(made, scan, tmp_path):
    import shutil

    scan(First())
    shutil.rmtree(made.path)
    other = outputs.make(made.path, shards=2, per_shard=5)
    assert found(scan(First())) == expected(other)
    names = {name for name in tree(tmp_path / "to") if name.startswith("part-")}
    assert names == {f"part-{one}.parquet" for one in other.shards}


def test_a_folder_that_holds_something_else(scan, tmp_path):
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match=r"to: holds files that no first wrote, e.g. letter.txt; choose"):
        scan(First())
    assert tree(tmp_path / "to") == {"letter.txt": b"dear"}
    scan(First(), tmp_path / "second")
    with pytest.raises(UsageError, match="holds the results of first, not of last; choose another folder"):
        scan(First(name="last"), tmp_path / "second")


def test_results_that_another_scan_wrote_over(made, scan, tmp_path):
    """A worker that was thought dead comes late, with the choices of an earlier scan."""
    results = scan(First())
    path = tmp_path / "to" / results.parts[1]
    pq.write_table(pq.read_table(path).replace_schema_metadata({"embedbeam.scan": "other"}), path)
    with pytest.raises(LedgerError, match="was written over by another scan; run the same command again"):
        found(results)
    assert found(scan(First())) == expected(made)


def test_the_same_in_a_beam_pipeline(made, scan, tmp_path):
    here = scan(First())
    output = open_output(str(made.path))
    there = Scan(str(made.path), output.plan.job, contents(output.receipts), str(tmp_path / "beam"), First())
    with beam.Pipeline(runner=FnApiRunner()) as root:
        build_scan(root, there, there.left(output.receipts))
    assert there.left(output.receipts) == []
    assert there.identity == here.identity
    for name in here.parts:
        assert (tmp_path / "beam" / name).read_bytes() == (tmp_path / "to" / name).read_bytes()


def test_an_output_that_became_another_jobs(made, tmp_path):
    late = Scan(str(made.path), "ffffffffffffffff", "", str(tmp_path / "to"), First())
    with pytest.raises(Exception, match="the folder is another job's by now"):  # noqa: SIM117
        with beam.Pipeline(runner=FnApiRunner()) as root:
            build_scan(root, late, [(made.shards[0], f"part-{made.shards[0]}.parquet")])
    assert not (tmp_path / "to").exists()
