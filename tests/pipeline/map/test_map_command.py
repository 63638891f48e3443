"""`embedbeam map`: every row has its place, the same twice, in pictures that say what they show."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import outputs
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from benchmarks.synthetic import write_output
from pipeline.map import clusters, points, projection
from pipeline.map.script import as_json
from pipeline.words import characteristic_words
from transforms.output.reader import open_output

KINDS = ("apples pears", "cars trains", "cats dogs", "rain snow")
KEPT = [["kind", "string"], ["score", "double"], ["x", "int64"]]


def rows(count, first, seed):
    random = np.random.default_rng(seed)
    kind = random.integers(len(KINDS), size=count)
    vectors = 5 * np.eye(len(KINDS), 24)[kind] + random.standard_normal((count, 24))
    return {
        "doc_id": [f"d{i}" for i in range(first, first + count)],
        "vectors": vectors,
        "text": [f"{KINDS[k]} and the rest" for k in kind.tolist()],
        "kind": [f"$kind_{k}$" for k in kind.tolist()],
        "score": random.standard_normal(count).tolist(),
        "x": (10 * kind).tolist(),
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("map") / "out"
    shards = [[rows(150, 0, 0)], [rows(100, 150, 1), rows(50, 250, 2)]]
    write_output(str(path), shards, dim=24, kept=KEPT, keep_text=True)
    return path


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in Path(folder).iterdir()}


def purity(table, cluster="cluster", kind="kind"):
    """Share of rows whose kind is the commonest of their cluster."""
    found = {}
    for one in table.to_pylist():
        found.setdefault(one[cluster], []).append(one[kind])
    return sum(max(map(kinds.count, set(kinds))) for kinds in found.values()) / len(table)


@pytest.mark.parametrize("method", ["pca", "tsne", pytest.param("umap", marks=pytest.mark.slow)])
def test_a_map_of_a_sample_places_every_row_and_is_the_same_twice(made, tmp_path, cli, method):
    flags = ["--method", method, "--color", "kind", "--sample", "200", "--clusters", "4", "--json"]
    code, out, _ = cli("map", made, *flags, "--to", tmp_path / "a")
    assert code == 0
    record = json.loads(out)
    assert record["fitted_on"] == (300 if method == "pca" else 200)
    assert record["pictured"] == 200
    table = pq.read_table(tmp_path / "a" / f"{method}.parquet")
    assert table.column_names == ["doc_id", "kind", "x", "y", "cluster"]
    assert table["doc_id"].to_pylist() == [f"d{i}" for i in range(300)]
    assert table.schema.metadata[b"embedbeam.job"].decode() == open_output(str(made)).plan.job
    assert np.isfinite(table["x"].to_numpy()).all()
    assert purity(table) > 0.8
    words = {word for cluster in record["clusters"] for word in cluster["words"].split(", ")}
    assert words >= {"apples", "cars", "cats", "rain"}
    assert "the" not in words
    assert cli("map", made, *flags, "--to", tmp_path / "b")[0] == 0
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    with Image.open(tmp_path / "a" / f"{method}.png") as picture:
        colours = len(picture.convert("RGB").getcolors(1 << 24))
        assert picture.size == (1320, 900)
        assert picture.text["embedbeam.job"] == open_output(str(made)).plan.job
        assert colours > 100


def test_pca_that_streams_is_scikit_learns(made, tmp_path, cli, monkeypatch):
    """Of several blocks; with some components more it is as good as exact."""
    from pipeline.map import write

    monkeypatch.setattr(write, "_BLOCK", 64)
    code, _, err = cli("map", made, "--method", "pca", "--sample", "100", "--to", tmp_path / "m")
    assert (code, err) == (0, "")
    table = pq.read_table(tmp_path / "m" / "pca.parquet")
    vectors = np.concatenate([block for _, block in open_output(str(made)).vectors()])
    expected = PCA(2).fit_transform(vectors)
    for axis, column in zip("xy", expected.T, strict=True):
        assert abs(np.corrcoef(table[axis].to_numpy(), column)[0, 1]) > 0.99


def test_three_dimensions_by_a_number_of_the_same_name(made, tmp_path, cli):
    flags = ["--method", "pca", "--dim", "3", "--color", "x", "--to", tmp_path / "m"]
    code, _, err = cli("map", made, *flags)
    assert (code, err) == (0, "")
    table = pq.read_table(tmp_path / "m" / "pca.parquet")
    assert table.column_names == ["doc_id", "color", "x", "y", "z", "cluster"]
    assert set(table["color"].to_pylist()) == {0, 10, 20, 30}
    assert sorted(os.listdir(tmp_path / "m")) == ["pca.html", "pca.parquet", "pca.png"]


def test_what_is_refused(made, tmp_path, cli):
    outputs.make(tmp_path / "few", shards=1, per_shard=6)
    outputs.make(tmp_path / "part", shards=3, leave=1)
    for arguments, words in (
        (
            [made, "--color", "colour"],
            "--color colour: no such field; there are kind, score, x, tokens, source",
        ),
        ([made, "--dim", "4"], "invalid choice: 4"),
        ([made, "--sample", "some"], "--sample some: expected a number above 1, or all"),
        ([tmp_path / "few"], "umap needs at least 20 rows, there are 6; give --method pca"),
        ([tmp_path / "few", "--method", "tsne"], "tsne needs at least 10 rows, there are 6"),
        ([tmp_path / "part", "--method", "pca"], "1 of its 3 shards are missing"),
    ):
        code, _, err = cli("map", *arguments)
        assert (code, words in err, err.count("\n")) == (2, True, 1), err


def test_rows_without_a_place(tmp_path):
    """NaN vectors have none; every other row has one, whatever the blocks are."""
    vectors = np.random.default_rng(0).standard_normal((50, 5)).astype(np.float32)
    vectors[[3, 20]] = np.nan
    chosen = np.arange(0, 50, 2)
    made = projection.fit("pca", vectors[chosen], dim=2, seed=0)
    blocks = [(None, vectors[low : low + 7]) for low in range(0, 50, 7)]
    places = np.concatenate([block for _, block in projection.placed(blocks, made, chosen)])
    assert np.flatnonzero(np.isnan(places).any(axis=1)).tolist() == [3, 20]
    np.testing.assert_allclose(places[0], made.sample[0])
    found = clusters.find_clusters(places, 3, ["a text"] * 50, seed=0)
    assert np.flatnonzero(found.of(places) < 0).tolist() == [3, 20]
    assert sum(found.sizes) == 48
    assert found.sizes == sorted(found.sizes, reverse=True)


@pytest.mark.parametrize(("sample", "fitted"), [("all", 58), ("20", 58)])
def test_rows_without_a_place_are_told(tmp_path, cli, sample, fitted):
    some = rows(60, 0, 0)
    some["vectors"][[4, 40]] = [[np.nan], [np.inf]]
    write_output(str(tmp_path / "out"), [[some]], dim=24, kept=KEPT, keep_text=True)
    flags = ["--method", "pca", "--sample", sample, "--clusters", "4", "--to"]
    code, out, _ = cli("map", tmp_path / "out", *flags, tmp_path / "a", "--json")
    record = json.loads(out)
    assert (code, record["rows"], record["without_place"], record["fitted_on"]) == (0, 60, 2, fitted)
    table = pq.read_table(tmp_path / "a" / "pca.parquet")
    assert np.flatnonzero(np.isnan(table["x"].to_numpy())).tolist() == [4, 40]
    assert record["pictured"] == sum(one["rows_of_sample"] for one in record["clusters"])
    code, out, _ = cli("map", tmp_path / "out", *flags, tmp_path / "b")
    assert "58 of 60 rows; 2 rows hold NaN or infinity and have no place\n" in out
    assert f"the picture and the page show {record['pictured']} of the rows" in out


def test_colours_by_category_and_by_number():
    by_name = points.colouring(["b", "a", None, "b", "c" * 100])
    assert by_name["names"][:3] == ["b", points.NONE, "a"]
    assert by_name["values"] == [0, 2, 1, 0, 3]
    assert by_name["counts"] == [2, 1, 1, 1]
    assert len(by_name["names"][3]) == 60
    assert points.colouring([1.5, float("nan"), None]) == {"kind": "number", "values": [1.5, None, None]}
    assert points.colouring([3, 3, 4])["kind"] == "category"  # codes
    assert points.colouring(list(range(20)))["kind"] == "number"
    assert points.colouring([True, False])["names"] == ["False", "True"]


def test_values_that_begin_alike_are_told_apart():
    from pipeline.map.points import colouring

    paths = [f"https://example.com/{'a' * 80}/{i}.html" for i in range(3)]
    made = colouring([*paths, paths[0], None, "(none)"])
    assert made["counts"] == [2, 1, 1, 1, 1]
    assert len(set(made["names"])) == 5
    assert all(
        name.endswith(f"{i}.html") for i, name in zip((0, 1, 2), sorted(made["names"])[2:], strict=True)
    )


def test_numbers_come_as_they_are():
    from pipeline.map.points import colouring

    assert colouring([1732264000.25, 1732264001.25])["values"] == [1732264000.25, 1732264001.25]
    big = 2**53 + 1
    assert colouring([big, big + 2])["names"] == [str(big), str(big + 2)]  # JavaScript has no such numbers


def test_json_in_a_script_element_holds_no_tag():
    text = "</script><!-- <script> & \u2028 \ud800"
    made = as_json({"text": text})
    assert not set("<>&\u2028") & set(made)
    assert json.loads(made) == {"text": text}


def test_words_of_groups():
    groups = [(0, "red apple apple"), (0, "green apple"), (1, "red car"), (1, "fast_car the"), (2, "12 !")]
    assert characteristic_words(iter(groups), top=2) == {0: ["apple", "green"], 1: ["car", "fast"]}
    assert characteristic_words([]) == {}


def test_words_are_forgotten_when_there_are_too_many(monkeypatch):
    import pipeline.words

    monkeypatch.setattr(pipeline.words, "_TERMS", 50)
    letters = "abcdefghijklmnopqrstuvwxyz"
    texts = ((i % 2, f"common{'xy'[i % 2]} {letters[i % 26]}{letters[i // 26 % 26]}q") for i in range(500))
    found = characteristic_words(texts, top=1)
    assert found == {0: ["commonx"], 1: ["commony"]}


@pytest.mark.browser
def test_the_map_in_a_browser(made, tmp_path, cli):
    from playwright.sync_api import sync_playwright

    assert cli("map", made, "--method", "pca", "--to", tmp_path, "--quiet")[0] == 0
    with sync_playwright() as running:
        browser = running.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-background-networking"]
        )
        page, errors, asked = browser.new_page(viewport={"width": 390, "height": 844}), [], []
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "pca.html").as_uri())
        page.wait_for_selector(".map[data-ready]", timeout=120_000)
        shown = page.evaluate("""() => [...document.querySelectorAll('.annotation')]
          .filter(one => one.style.visibility !== 'hidden')
          .map(one => one.getBoundingClientRect().toJSON())""")
        apart = [
            a["right"] < b["left"]
            or b["right"] < a["left"]
            or a["bottom"] < b["top"]
            or b["bottom"] < a["top"]
            for i, a in enumerate(shown)
            for b in shown[:i]
        ]
        assert shown
        assert all(apart)
        button = page.locator(".legend button").first
        button.click()  # hides its points
        assert page.evaluate("document.querySelector('.plot').data.length") == 9
        assert (errors, asked) == ([], [(tmp_path / "pca.html").as_uri()])
        browser.close()
