"""The index: what it finds, what it says of itself, and when it is built anew."""

import dataclasses
import json
import shutil

import numpy as np
import outputs
import pytest

from pipeline.run.output import output_lock
from pipeline.run.screen import Screen
from pipeline.search.exact import nearest
from pipeline.search.index import Index, open_index
from transforms.errors import JobFailed, UsageError
from transforms.output.folder import Folder
from transforms.output.reader import open_output


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return outputs.make(tmp_path_factory.mktemp("index") / "out", shards=4, per_shard=500, dim=16)


@pytest.fixture
def screen(capfd):
    with Screen() as screen:
        yield screen
    screen.close()


def record(folder):
    return json.loads((folder / "index.json").read_bytes())


def test_built_once_and_measured(made, screen, capfd):
    output = open_output(str(made.path))
    index = open_index(output, screen)
    said = capfd.readouterr().err
    about = record(made.path / "_index")
    assert about["job"] == made.job
    assert (about["rows"], about["asked"], about["metric"]) == (2000, 200, "cosine")
    assert 0.95 <= about["recall"] <= 1
    assert (
        f"recall@10 {about['recall']:.3f} against exact search (200 rows asked), 2,000 rows in 50 lists"
        in said
    )
    assert about["bytes"] == (made.path / "_index" / "vectors.faiss").stat().st_size

    # The recall that it tells is what anybody measures.
    questions = np.random.default_rng(5).standard_normal((300, 16)).astype(np.float32)
    true, found = nearest(output, questions, 10).places, index.nearest(questions, 10)
    shares = [len(set(a) & set(b)) / 10 for a, b in zip(true.tolist(), found.places.tolist(), strict=True)]
    assert np.mean(shares) == pytest.approx(about["recall"], abs=0.06)
    rows = np.concatenate([vectors for _, vectors in output.vectors()])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    asked = questions / np.linalg.norm(questions, axis=1, keepdims=True)
    cosines = np.take_along_axis(asked @ rows.T, found.places, axis=1)
    np.testing.assert_allclose(found.scores, cosines, atol=2e-3)

    before = (made.path / "_index" / "vectors.faiss").stat().st_mtime_ns
    open_index(output, screen)
    assert capfd.readouterr().err == ""
    assert (made.path / "_index" / "vectors.faiss").stat().st_mtime_ns == before


def test_the_same_twice(made, screen, tmp_path):
    output = open_output(str(made.path))
    both = []
    for name in ("a", "b"):
        open_index(output, screen, where=str(tmp_path / name))
        both.append(record(tmp_path / name) | {"seconds": 0})
    assert both[0] == both[1]
    assert (tmp_path / "a" / "vectors.faiss").read_bytes() == (tmp_path / "b" / "vectors.faiss").read_bytes()


def test_of_something_else_it_is_built_anew(made, screen, tmp_path, capfd):
    where = str(tmp_path / "index")
    shutil.copytree(made.path, tmp_path / "out")
    output = open_output(str(tmp_path / "out"))
    open_index(output, screen, where=where)
    capfd.readouterr()
    open_index(output, screen, metric="dot", where=where)
    assert "is of metric cosine: it is built anew" in capfd.readouterr().err
    assert record(tmp_path / "index")["metric"] == "dot"

    receipt = next((tmp_path / "out" / "_embedbeam" / "receipts").iterdir())
    receipt.unlink()
    fewer = open_output(str(tmp_path / "out"))
    index = open_index(fewer, screen, metric="dot", where=where)
    assert "is of older rows: it is built anew" in capfd.readouterr().err
    assert index.record.rows == 1500

    other = outputs.make(tmp_path / "other", shards=1, per_shard=60, dim=16, model="another")
    index = open_index(open_output(str(other.path)), screen, where=where)
    assert "is of another job: it is built anew" in capfd.readouterr().err
    assert (index.record.job, index.record.rows, index.record.lists) == (other.job, 60, 1)


def test_a_file_that_was_cut_off_is_no_index(made, screen, tmp_path, capfd):
    """The record comes last: a build that is killed leaves none."""
    output = open_output(str(made.path))
    open_index(output, screen, where=str(tmp_path))
    (tmp_path / "index.json").unlink()
    (tmp_path / "vectors.faiss").write_bytes(b"cut")
    capfd.readouterr()
    index = open_index(output, screen, where=str(tmp_path))
    assert "recall@10" in capfd.readouterr().err
    assert index.nearest(np.ones((1, 16), np.float32), 3).places.shape == (1, 3)


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_record_without_its_file(made, screen, tmp_path, capfd, damage):
    output = open_output(str(made.path))
    whole = open_index(output, screen, where=str(tmp_path)).record
    path, left = tmp_path / "vectors.faiss", tmp_path / "_embedbeam" / "tmp" / "left"
    left.write_bytes(b"of a build that was killed")
    path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:-9])
    capfd.readouterr()
    with output_lock(Folder(str(tmp_path))), pytest.raises(JobFailed, match="another embedbeam is writing"):
        open_index(output, screen, where=str(tmp_path))
    again = open_index(output, screen, where=str(tmp_path)).record
    assert "vectors.faiss: is gone or not whole: it is built anew" in capfd.readouterr().err
    assert dataclasses.replace(again, seconds=whole.seconds) == whole
    assert not left.exists()


def test_as_many_rows_as_are_asked_for(made, screen, tmp_path):
    """The lists that are looked through may hold fewer than k rows."""
    index = open_index(open_output(str(made.path)), screen, where=str(tmp_path))
    few = Index(dataclasses.replace(index.record, probes=1), index._faiss)
    questions = np.random.default_rng(5).standard_normal((20, 16)).astype(np.float32)
    best = few.nearest(questions, 300)
    assert all(len(set(places)) == 300 for places in best.places.tolist())
    assert (best.places >= 0).all()
    assert (few.nearest(questions, 3).places >= 0).all()


def test_a_file_that_says_something_else_is_built_anew(made, screen, tmp_path, capfd):
    output = open_output(str(made.path))
    index = open_index(output, screen, where=str(tmp_path))
    size = (tmp_path / "vectors.faiss").stat().st_size
    (tmp_path / "vectors.faiss").write_bytes(b"\x7f" * size)
    capfd.readouterr()
    again = open_index(output, screen, where=str(tmp_path))
    assert "vectors.faiss: cannot be read (" in capfd.readouterr().err
    assert (again.record.recall, again.record.bytes) == (index.record.recall, size)


def test_a_folder_that_is_no_index_s(made, screen, tmp_path):
    (tmp_path / "file").write_text("")
    output = open_output(str(made.path))
    with pytest.raises(UsageError, match=r"--index-folder .*file: is a file; expected a folder"):
        open_index(output, screen, where=str(tmp_path / "file"))
    with pytest.raises(UsageError, match="is the output of a job; choose another folder"):
        open_index(output, screen, where=str(made.path))
    with pytest.raises(UsageError, match="--index-folder: is empty"):
        open_index(output, screen, where="")
