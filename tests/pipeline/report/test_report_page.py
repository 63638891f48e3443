"""The report: its figures and warnings, what a job's end costs, and the page in a real browser."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import outputs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.synthetic import write_output
from pipeline.report import write
from pipeline.report.charts import histogram
from pipeline.report.findings import findings
from pipeline.report.ledgers import examples, throughput
from pipeline.report.measures import measure
from pipeline.report.sample import few_rows
from transforms.output import layout
from transforms.output.reader import open_output

EVIL = "</script><script>window.evil = 1</script><img src=x onerror='window.evil = 1'>"
KEPT = [["kind", "string"], ["score", "double"], ["year", "int64"]]


def documents(count, *, seed=0):
    """Rows with texts that a page must not take for its own, in three clouds."""
    random = np.random.default_rng(seed)
    kind = random.integers(3, size=count)
    vectors = 4 * np.eye(3, 16)[kind] + random.standard_normal((count, 16))
    vectors[1] = vectors[0]
    return {
        "doc_id": [f"{EVIL}{i}" if i == 0 else f"שלום-{i}" if i == 2 else f"d{i}" for i in range(count)],
        "vectors": vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        "text": [f"{EVIL} <b>text</b> number {i} " + "long " * 80 for i in range(count)],
        "kind": [f"<i>{k}</i>" for k in kind.tolist()],
        "score": random.standard_normal(count).tolist(),
        "year": [None if i % 5 else 2000 + i for i in range(count)],
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "out"
    write_output(str(path), [[documents(200)], [documents(100, seed=1)]], dim=16, kept=KEPT, keep_text=True)
    return path


def measured(vectors):
    return measure(np.asarray(vectors, np.float32))


def found(vectors, dim=None, **manifest):
    """Warnings about vectors in a job where nothing else is wrong."""
    import dataclasses

    from transforms.output.manifest import Manifest

    names = [field.name for field in dataclasses.fields(Manifest)][:20]
    known = dict.fromkeys(names, 0) | {
        "dead_letters": {},
        "dim": dim or vectors.shape[1],
        "rows": len(vectors),
    }
    one = Manifest(**(known | manifest))
    return [f.what for f in findings(one, measured(vectors), rows=len(vectors), cut=0)]


def unit(rows, dim, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((rows, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_cosines_and_pairs_are_those_of_the_vectors():
    vectors = unit(300, 8)
    vectors[7], vectors[250] = vectors[100], -vectors[100]
    seen = measured(vectors)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    np.testing.assert_allclose(seen.nearest, cosines.max(axis=1), atol=1e-5)
    alike = [(a, b) for a, b, _ in seen.pairs]
    assert alike[0] == (7, 100)
    assert seen.pairs[0][2] == pytest.approx(1)
    assert seen.twins == int((cosines.max(axis=1) >= 0.98).sum())
    assert abs(seen.random.mean() - cosines[~np.eye(300, dtype=bool)].mean()) < 0.02


def test_principal_directions_are_scikit_learns():
    from sklearn.decomposition import PCA

    vectors = np.random.default_rng(0).standard_normal((400, 6)) * [5, 3, 1, 1, 0.5, 0.1] + 2
    seen, pca = measured(vectors), PCA(2).fit(vectors)
    np.testing.assert_allclose(seen.spread[:2], pca.explained_variance_ratio_, rtol=1e-4)
    expected = pca.transform(vectors)
    np.testing.assert_allclose(np.abs(seen.places), np.abs(expected), atol=1e-3)


def test_no_warning_where_nothing_is_wrong():
    assert found(unit(500, 32)) == []


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (unit(100, 32) * 0.01 + 1 / np.sqrt(32), "Two documents at random have a cosine of 1.00"),
        (np.ones((100, 32)), "hold one number, again and again"),
        (np.tile(unit(1, 32), (100, 1)), "All sampled vectors are the same"),
        (np.where(np.arange(100)[:, None] == 3, 0, unit(100, 32)), "1 of 100 sampled vectors are all zeros"),
        (np.where(np.arange(100)[:, None] < 2, np.nan, unit(100, 32)), "2 of 100 sampled vectors hold NaN"),
        (5 * unit(100, 32), "Vectors are not of length 1, but 5"),
        (unit(100, 32)[np.arange(100) // 2], "100 of 100 sampled rows have a near-duplicate"),
        (
            unit(100, 32) * np.eye(1, 32)[0] + 1e-3 * unit(100, 32, 1),
            "Nine tenths of the variance lie in one",
        ),
    ],
)
def test_each_defect_has_its_warning(vectors, words):
    assert any(words in what for what in found(vectors)), found(vectors)


def test_warnings_about_documents():
    bad = found(unit(100, 32), documents=1000, dead_letters={"not JSON": 50}, tokens=1000, tokens_dropped=300)
    assert bad == [
        "50 of 1,000 documents (5.0%) are dead letters.",
        "30% of all tokens were not embedded.",
    ]


def test_throughput_adds_up_to_the_rows(finished):
    receipts = open_output(str(finished)).receipts
    seen = throughput(receipts)
    assert seen.rows.sum() * seen.seconds == pytest.approx(sum(r.rows for r in receipts), rel=1e-3)
    assert seen.tokens.sum() * seen.seconds == pytest.approx(sum(r.tokens for r in receipts), rel=1e-3)


@pytest.mark.parametrize("output_format", ["parquet", "tfrecord"])
def test_few_rows_are_rows_of_the_output(tmp_path, output_format):
    made = outputs.make(tmp_path / "out", shards=6, per_shard=30, output_format=output_format)
    output = open_output(str(made.path))
    rows = few_rows(output, output.receipts, 50, columns=["doc_id"], seed=1)["doc_id"].to_pylist()
    assert len(rows) == len(set(rows)) == 50
    there = [row.doc_id for shard in made.shards for row in made.rows[shard]]
    assert [one for one in there if one in rows] == rows  # in the order of the plan
    assert len({one.partition(":")[0] for one in rows}) == 6


def test_a_job_writes_its_report_before_its_success(finished):
    page = (finished / layout.REPORT).read_text()
    assert open_output(str(finished)).plan.job in page
    assert os.stat(finished / layout.REPORT).st_mtime_ns <= os.stat(finished / layout.SUCCESS).st_mtime_ns
    for reason in ("blank text", "not JSON", "the model refuses it"):
        assert reason in page
    assert "{broken" in page  # an example


def test_a_report_that_cannot_be_written_fails_no_job(copy_of, capsys):
    output = open_output(str(copy_of))
    (copy_of / layout.REPORT).unlink()
    (copy_of / layout.REPORT).mkdir()
    (copy_of / layout.REPORT / "a").touch()
    write.write_at_end(lambda: output, output.manifest, output.receipts)
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("embedbeam: no _report.html (")
    assert said.endswith("); `embedbeam report` makes it")


def test_the_command(made, tmp_path, cli):
    code, out, err = cli("report", made, "--to", tmp_path / "page.html", "--json", "--sample", "100")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert record["report"] == str(tmp_path / "page.html")
    assert record["rows_sampled"] == 100
    page = (tmp_path / "page.html").read_text()
    assert "<script>window.evil" not in page
    assert "<img" not in page
    assert os.listdir(tmp_path) == ["page.html"]


def test_what_the_command_refuses(made, tmp_path, cli):
    outputs.make(tmp_path / "part", shards=3, leave=1)
    for arguments, words in (
        ([tmp_path / "part"], "the job has not finished, 1 of its 3 shards are missing"),
        ([made, "--sample", "1"], "--sample 1: expected 2 to 20,000"),
        ([tmp_path / "none"], "no job here"),
    ):
        code, _, err = cli("report", *arguments)
        assert (code, words in err, err.count("\n")) == (2, True, 1), err


def test_a_kept_field_called_text_is_no_text(tmp_path, cli):
    """`text` and `chunk` may be anything that somebody kept."""
    rows = {"doc_id": ["a", "b", "c"], "vectors": np.eye(3), "text": [None, "x", "y"], "chunk": [7, 8, 9]}
    out = tmp_path / "out"
    kept = [["text", "string"], ["chunk", "int64"]]
    write_output(str(out), [[rows]], dim=3, kept=kept)
    assert cli("report", out, "--quiet")[0] == 0
    assert '"ids":["a","b","c"]' in (out / layout.REPORT).read_text(encoding="utf-8")
    assert cli("map", out, "--method=pca", "--quiet", "--to", tmp_path / "map")[0] == 0


def test_equal_vectors_are_all_in_the_chart(tmp_path):
    """In float32 the cosine of a vector with itself may be a little more than 1."""
    vectors = np.repeat(np.random.default_rng(3).standard_normal((1, 384)).astype(np.float32), 200, axis=0)
    assert measured(vectors).random.max() <= 1
    page = histogram("cosine", measured(vectors).random, span=(0.9, 1.0))
    counts = [int(count.replace(",", "")) for count in re.findall(r"title=\"[^\"]*: ([0-9,]+)\"", page)]
    assert sum(counts) == len(measured(vectors).random)


@settings(max_examples=50)
@given(st.integers(-50, 50), st.integers(0, 300))
def test_ranges_of_whole_numbers_hold_as_many_of_them(low, more):
    page = histogram("tokens", np.arange(low, low + more + 1))
    counts = [int(count) for count in re.findall(r"title=\"[^\"]*: ([0-9]+)\"", page)]
    assert sum(counts) == more + 1
    assert len(counts) <= 40
    assert len(set(counts[:-1])) <= 1


def test_every_reason_of_dead_letters_has_an_example(tmp_path):
    """However many of another reason come before."""
    made = outputs.make(tmp_path / "out", shards=3)
    output = open_output(str(made.path))
    found = examples(output, output.receipts)
    assert {reason: len(some) for reason, some in found.items()} == {"not JSON": 3}


def test_without_plotly_the_page_says_what_to_install(made, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    output = open_output(str(made))
    rows = few_rows(output, output.receipts, 50, columns=write.columns(output), seed=0)
    page, _, _ = write.make_report(output, output.manifest, output.receipts, rows, drawn="")
    assert "the map needs plotly: pip install &#x27;embedbeam[explore]&#x27;" in page
    assert 'class="plot"' not in page


@pytest.fixture(scope="module")
def page_file(made, tmp_path_factory):
    from pipeline.cli import main

    path = tmp_path_factory.mktemp("page") / "report.html"
    assert main(["report", str(made), "--to", str(path), "--quiet"]) == 0
    return path


@pytest.mark.browser
def test_the_page_in_a_browser(page_file):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-background-networking"]
        )
        for width in (1280, 390):
            for scheme in ("light", "dark"):
                check_page(browser, page_file, width, scheme)
        browser.close()


def check_page(browser, page_file, width, scheme):
    """It renders, a point shows its document, the wheel zooms, no error, and no request leaves it."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    errors, asked = [], []
    page = context.new_page()
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.route("**/*", lambda route: (asked.append(route.request.url), route.continue_())[1])
    page.goto(Path(page_file).as_uri())
    page.wait_for_selector(".map[data-ready]", timeout=120_000)
    try:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
        assert dark == (scheme == "dark")
        plot = page.locator(".plot")
        plot.scroll_into_view_if_needed()
        # A point that lies in the middle: its pixels as the plot itself places them.
        at = page.evaluate("""() => {
          const plot = document.querySelector('.plot'), {xaxis, yaxis} = plot._fullLayout;
          const trace = plot.data[plot.data.length - 1], box = plot.getBoundingClientRect();
          return {x: box.left + xaxis._offset + xaxis.d2p(trace.x[0]), row: trace.customdata[0],
                  y: box.top + yaxis._offset + yaxis.d2p(trace.y[0])};
        }""")
        page.mouse.move(at["x"] - 3, at["y"])
        page.mouse.move(at["x"], at["y"])
        page.wait_for_selector(".shown b", timeout=20_000)
        known = page.evaluate("JSON.parse(document.getElementById('points').textContent)")
        shown = page.locator(".shown b").inner_text()
        assert shown in known["ids"]
        assert "<b>text</b> number" in page.locator(".shown p").inner_text()
        before = page.evaluate("document.querySelector('.plot').layout.xaxis.range")
        page.mouse.wheel(0, -400)
        page.wait_for_function(
            "b => document.querySelector('.plot').layout.xaxis.range[0] !== b[0]", arg=before, timeout=20_000
        )
        after = page.evaluate("document.querySelector('.plot').layout.xaxis.range")
        assert after[1] - after[0] < before[1] - before[0]
        assert page.locator(".legend button").count() == 3
        page.locator(".map select").select_option("score")  # numbers: a bar of colours, no legend
        page.wait_for_selector(".plot .colorbar", state="attached", timeout=20_000)
        assert page.locator(".legend button").count() == 0
        assert page.evaluate("window.evil") is None
        assert errors == []
        assert asked == [Path(page_file).as_uri()]
    finally:
        context.close()
