"""Clusters: the groups that were made are found, every row is labelled, and what is said of them is true."""

import itertools
import json
from pathlib import Path

import apache_beam as beam
import jobs
import numpy as np
import outputs
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from benchmarks.synthetic import write_output
from pipeline.clustering.assign import NOISE, Assign
from pipeline.scan.steps import build_scan
from pipeline.scan.work import Scan
from pipeline.search.exact import unit
from transforms.output.reader import open_output

WORDS = ["apple pear fruit", "steel iron metal", "river lake water", "horse sheep animal"]


def write(path, vectors, *, shards=3, texts=None, **head):
    """An output of these vectors, in their order; the document of row 7 is d7."""
    vectors = np.asarray(vectors, np.float32)
    bounds = np.linspace(0, len(vectors), shards + 1).astype(int)

    def rows(low, high):
        text = {"text": texts[low:high]} if texts else {}
        return [{"doc_id": [f"d{i}" for i in range(low, high)], "vectors": vectors[low:high], **text}]

    blocks = [rows(low, high) for low, high in itertools.pairwise(bounds)]
    write_output(str(path), blocks, dim=vectors.shape[1], keep_text=bool(texts), **head)
    return path


def clouds(count=600, kinds=4, dim=16, noise=0.25, seed=5):
    """Vectors of any length around unit centres that are at right angles, and the kind of each."""
    random = np.random.default_rng(seed)
    kind = random.integers(kinds, size=count)
    vectors = np.eye(dim)[kind] + noise * random.standard_normal((count, dim)) / np.sqrt(dim)
    return vectors * random.uniform(0.5, 2, (count, 1)), kind


@pytest.fixture(scope="module")
def kinds():
    return clouds()


@pytest.fixture(scope="module")
def out(tmp_path_factory, kinds):
    texts = [f"{WORDS[kind]} the number {i}" for i, kind in enumerate(kinds[1])]
    return write(tmp_path_factory.mktemp("clouds") / "out", kinds[0], texts=texts)


def labels(output, folder):
    """The label files in the order of the output's parts, as one table."""
    import pyarrow as pa

    parts = [Path(receipt.part).name for receipt in open_output(str(output)).receipts]
    return pa.concat_tables(pq.read_table(folder / name) for name in parts)


def same_groups(found, kinds):
    """Whether one numbering of the groups is the other's by other names."""
    pairs = set(zip(found.tolist(), kinds.tolist(), strict=True))
    return len(pairs) == len(set(found.tolist())) == len(set(kinds.tolist()))


def test_kmeans_of_the_real_command(out, kinds):
    """Labels, sizes, cohesion, examples and words, each recomputed from the vectors."""
    done = jobs.run(jobs.PYTHON, "-m", "pipeline", "cluster", out, "--k", 4, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert json.loads((out / "_clusters/_clusters.json").read_text()) == said
    table = labels(out, out / "_clusters")
    assert table.schema.names == ["doc_id", "cluster", "cosine"]
    assert table["doc_id"].to_pylist() == [f"d{i}" for i in range(600)]
    found = table["cluster"].to_numpy()
    assert same_groups(found, kinds[1])
    vectors = unit(kinds[0].astype(np.float32))
    cosines = table["cosine"].to_numpy()
    assert said["job"] == open_output(str(out)).plan.job
    assert (said["rows"], said["noise"], said["method"], said["k"], said["seed"]) == (600, 0, "kmeans", 4, 0)
    assert [one["rows"] for one in said["clusters"]] == sorted(np.bincount(found).tolist(), reverse=True)
    for one in said["clusters"]:
        members = np.flatnonzero(found == one["cluster"])
        centre = unit(vectors[members].mean(axis=0, keepdims=True))[0]
        assert one["cohesion"] == pytest.approx(float((vectors[members] @ centre).mean()), abs=2e-3)
        assert one["cohesion"] == pytest.approx(float(cosines[members].mean()), abs=1e-4)
        best = members[np.argsort(-cosines[members])[:3]]
        assert [example["doc_id"] for example in one["examples"]] == [f"d{i}" for i in best]
        assert one["examples"][0]["text"] == f"{WORDS[kinds[1][best[0]]]} the number {best[0]}"
        assert set(one["words"][:3]) == set(WORDS[kinds[1][best[0]]].split())
    import pandas as pd

    assert len(pd.read_parquet(out)) == 600  # what was made later is not taken for rows
    assert len(pd.read_parquet(out / "_clusters")) == 600


def test_the_same_twice_and_other_choices_anew(cli, out, tmp_path):
    for to in ("a", "b"):
        code, _, err = cli("cluster", out, "--k", 5, "--seed", 3, "--to", tmp_path / to)
        assert code == 0, err
    files = [{p.name: p.read_bytes() for p in (tmp_path / to).glob("part-*")} for to in ("a", "b")]
    assert files[0] == files[1]
    assert len(files[0]) == 3
    assert cli("cluster", out, "--k", 2, "--to", tmp_path / "a")[0] == 0
    assert set(labels(out, tmp_path / "a")["cluster"].to_pylist()) == {0, 1}
    assert len(json.loads((tmp_path / "a/_clusters.json").read_text())["clusters"]) == 2


def test_auto_finds_how_many_there_are(cli, out, kinds, tmp_path):
    code, words, err = cli("cluster", out, "--to", tmp_path / "to")
    assert code == 0
    assert "k 4 of 17 tried on 600 rows; best mean silhouettes: 4 0." in err
    assert words.startswith(f"600 rows in 4 clusters; labels in {tmp_path / 'to'}\n")
    assert same_groups(labels(out, tmp_path / "to")["cluster"].to_numpy(), kinds[1])
    said = json.loads((tmp_path / "to/_clusters.json").read_text())
    assert max(said["silhouettes"], key=said["silhouettes"].get) == "4"


def test_hdbscan_finds_regions_and_noise(cli, tmp_path):
    """Rows that lie alone are noise; with a sample smaller than the output the rest go by their neighbour."""
    vectors, kinds = clouds(noise=0.15)
    vectors[::60] = np.eye(16)[6:]  # each at a right angle to all others
    kinds[::60] = -1
    out = write(tmp_path / "out", vectors)
    code, words, _ = cli("cluster", out, "--method", "hdbscan")
    assert code == 0
    assert words.startswith("600 rows in 4 clusters, ")
    table = labels(out, out / "_clusters")
    found = table["cluster"].to_numpy()
    assert (found[kinds < 0] == NOISE).all()
    inside = found != NOISE
    assert inside.sum() > 560
    assert same_groups(found[inside], kinds[inside])
    assert [value is None for value in table["cosine"].to_pylist()] == (~inside).tolist()


def test_a_row_outside_the_sample_has_its_neighbours_label(monkeypatch, tmp_path):
    from pipeline.clustering import centres

    monkeypatch.setattr(centres, "DENSE_ROWS", 150)
    vectors, kinds = clouds(noise=0.1)
    found = centres.hdbscan(open_output(str(write(tmp_path / "out", vectors))), seed=1)
    assert found.sampled == 150
    got, cosines = found.assign.nearest(unit(vectors.astype(np.float32)))
    assert same_groups(got[got >= 0], kinds[got >= 0])
    assert (got >= 0).mean() > 0.9
    nearest = (unit(vectors.astype(np.float32)) @ found.assign.references.T).argmax(axis=1)
    np.testing.assert_array_equal(got, found.assign.labels[nearest])
    assert (cosines[got >= 0] > 0.8).all()


def test_nothing_but_noise(cli, tmp_path):
    alone = np.eye(60)  # each as far from all others
    code, words, _ = cli("cluster", write(tmp_path / "out", alone), "--method", "hdbscan")
    assert code == 0
    assert words.splitlines() == [
        f"60 rows in 0 clusters, 60 are noise; labels in {tmp_path / 'out'}/_clusters",
        "no region is denser than the rest: try --method kmeans",
    ]


@pytest.mark.parametrize(
    ("head", "columns"),
    [
        ({"output_format": "tfrecord"}, ["doc_id", "cluster", "cosine"]),
        ({"vector_dtype": "int8"}, ["doc_id", "cluster", "cosine"]),
        ({"long_documents": "chunks"}, ["doc_id", "chunk", "cluster", "cosine"]),
    ],
)
def test_other_outputs(cli, tmp_path, head, columns):
    made = outputs.make(tmp_path / "out", shards=2, per_shard=30, dim=8, **head)
    code, _, err = cli("cluster", made.path, "--k", 3, "--quiet")
    assert code == 0, err
    table = labels_of_parts(made)
    assert table.schema.names == columns
    rows = [row for shard in made.shards for row in made.rows[shard]]
    assert table["doc_id"].to_pylist() == [row.doc_id for row in rows]
    vectors = unit(np.array([row.vector for row in rows], np.float32))
    found = table["cluster"].to_numpy()
    means = unit(np.array([vectors[found == one].mean(axis=0) for one in range(3)], np.float32))
    assert ((vectors @ means.T).argmax(axis=1) == found).mean() > 0.9  # to the last bits a centre's own


def labels_of_parts(made):
    import pyarrow as pa

    return pa.concat_tables(
        pq.read_table(made.path / "_clusters" / f"part-{one}.parquet") for one in made.shards
    )


def test_a_runner_gives_the_same_labels(out, tmp_path):
    """The assignment is pickled and done by Beam's workers."""
    centres = np.eye(16, dtype=np.float32)[:4]
    work = Assign(centres, np.arange(4, dtype=np.int32), centres, {"method": "kmeans"}, False)
    output = open_output(str(out))
    scan = Scan(str(out), output.plan.job, "", str(tmp_path / "to"), work)
    with beam.Pipeline(runner=FnApiRunner()) as root:
        build_scan(root, scan, scan.left(output.receipts))
    assert scan.left(output.receipts) == []
    here = [row for r in output.receipts for block in work.part(output, r.part) for row in block.to_pylist()]
    assert labels(out, tmp_path / "to").to_pylist() == here


def test_mistakes(cli, out, tmp_path):
    one = write(tmp_path / "one", [[1, 0, 0]], shards=1)
    alike = write(tmp_path / "alike", [[1, 2, 3]] * 20)
    three = write(tmp_path / "three", [[1, 0, 0], [0, 1, 0], [0, 0, 1]] * 10)
    partial = outputs.make(tmp_path / "partial", leave=1).path

    def error(*arguments):
        code, _, err = cli("cluster", *arguments, "--quiet")
        assert code == 2
        return err.removeprefix("embedbeam: error: ").strip()

    assert error(out, "--k", 1) == "--k 1: expected at least 2, or auto"
    assert error(out, "--k", 601) == f"--k 601: {out} has 600 rows"
    assert error(out, "--k", "many").startswith("argument --k: 'many': expected a number, or auto")
    assert error(one, "--k", 2) == f"--k 2: {one} has 1 rows"
    assert error(one) == f"--k auto: {one} has fewer than three rows: nothing to group"
    assert error(alike) == f"--k auto: {alike} has fewer than three different vectors: nothing to group"
    assert error(three, "--k", 4) == "--k 4: only 3 different vectors in a sample of 30"
    assert error(out, "--k", 4, "--method", "hdbscan").startswith("--k is for kmeans")
    assert "expected at least 10" in error(one, "--method", "hdbscan")
    assert "the job has not finished, 1 of its 3 shards are missing" in error(partial, "--k", 2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    assert "holds files that no cluster wrote" in error(out, "--k", 2, "--to", tmp_path / "full")
    code, _, _ = cli("cluster", partial, "--k", 2, "--partial", "--to", tmp_path / "to", "--quiet")
    assert code == 0
    assert len(pq.read_table(tmp_path / "to")) == 40


def test_vectors_of_no_length_and_three_alike(cli, tmp_path):
    """Zeros are near to nothing; as many different vectors as clusters give each its own."""
    out = write(tmp_path / "out", [[1, 0, 0], [0, 1, 0], [0, 0, 0]] * 10)
    assert cli("cluster", out, "--k", 3)[0] == 0
    found = np.reshape(labels(out, out / "_clusters")["cluster"].to_numpy(), (10, 3))
    assert (found[:, :2] == found[0, :2]).all()
    assert found[0, 0] != found[0, 1]
