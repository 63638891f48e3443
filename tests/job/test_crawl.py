"""Common Crawl's files through the real command, cut, with a broken record and records that are no pages."""

import json
import random
import signal
import sys
from pathlib import Path

import jobs
import pyarrow.parquet as pq
import pytest
import warcs
from jobs import run

EMBEDBEAM = Path(sys.executable).parent / "embedbeam"
PAGES = 120


def text_of(i):
    words = random.Random(i).choices(["a", "house", "by", "the", "sea", "and", "its", "garden"], k=60)
    return f"page {i} " + " ".join(words)


def write_crawl(folder):
    """A WET and a WARC file of one crawl, a broken record in each; returns what to expect."""
    folder.mkdir()
    texts = {f"http://{kind}.org/{i}": text_of(i) for kind in ("wet", "warc") for i in range(PAGES)}
    wet = [warcs.wet(url, text) for url, text in texts.items() if "//wet" in url]
    warc = [
        one for url, text in texts.items() if "//warc" in url for one in warcs.crawled(url, warcs.page(text))
    ]
    damaged = bytearray(warcs.members([warcs.wet("http://wet.org/damaged", "x" * 500)]))
    damaged[30] ^= 0xFF
    name = "CC-MAIN-20240220211055-20240220241055-00000.warc"
    (folder / f"{name}.wet.gz").write_bytes(
        warcs.members([warcs.warcinfo(), *wet[:50]]) + damaged + warcs.members(wet[50:])
    )
    image = warcs.crawled("http://warc.org/i", b"\x89PNG", mime="image/png")
    (folder / f"{name}.gz").write_bytes(warcs.members([warcs.warcinfo(), *warc, *image]))
    (folder / f"{name}.wat.gz").write_bytes(b"is never read")
    return texts


@pytest.mark.slow
def test_a_crawl(tmp_path, model):
    texts = write_crawl(tmp_path / "in")
    fields = [f"--keep-field={name}" for name in ("url", "date", "language", "mime", "title")]
    flags = [f"--model={model}", "--keep-text", "--shard-bytes=4000", "--max-tokens=16", *fields]
    done = run(EMBEDBEAM, "embed", f"--input={tmp_path}/in", f"--output={tmp_path}/out", *flags)
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert {row["doc_id"]: row["text"] for row in rows} == texts
    assert len(rows) == len(texts) == 2 * PAGES
    assert {(row["date"], row["mime"]) for row in rows} == {
        (warcs.DATE, "text/plain"),
        (warcs.DATE, "text/html"),
    }
    assert {(row["language"], row["title"]) for row in rows} == {("eng", None), (None, "T")}
    assert all(row["url"] == row["doc_id"] for row in rows)
    manifest = json.loads((tmp_path / "out/_embedbeam/manifest.json").read_text())
    assert manifest["shards"] > 5  # though there are two files
    (letter,) = jobs.letters(tmp_path / "out")
    assert letter["reason"].startswith("damaged gzip member: ")
    skipped = {"request record": PAGES + 1, "metadata record": PAGES + 1, "warcinfo record": 2, "image/*": 1}
    assert manifest["skipped"] == skipped
    counted = ", ".join(f"{what} ({count})" for what, count in manifest["skipped"].items())
    assert f"skipped, no documents: {sum(skipped.values())} records: {counted}" in done.stdout.splitlines()
    kill_at = jobs.ROOT / "tests" / "kill_at.py"
    again = ["embed", f"--input={tmp_path}/in", f"--output={tmp_path}/again", *flags]
    killed = run(sys.executable, kill_at, "after rename part", 3, *again)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert run(EMBEDBEAM, *again).returncode == 0
    assert jobs.files(tmp_path / "again") == jobs.files(tmp_path / "out")


@pytest.mark.slow
def test_a_missing_package_is_one_line(tmp_path, model):
    write_crawl(tmp_path / "in")
    code = "import sys; sys.modules['fastwarc'] = None; from pipeline.cli import main; sys.exit(main())"
    arguments = [f"--input={tmp_path}/in", f"--output={tmp_path}/out", f"--model={model}"]
    done = run(sys.executable, "-c", code, "embed", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.endswith("files need fastwarc: pip install 'embedbeam[crawl]'")
    assert not (tmp_path / "out").exists()
