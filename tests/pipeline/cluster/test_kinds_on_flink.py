"""Documents of every kind in workers of a real Flink cluster: the rows and dead letters of a local run."""

import os

import image_models
import jobs
import pictures
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import remote
import sounds
import tables
import text_models
import warcs

pytestmark = [pytest.mark.runners, pytest.mark.slow]


def images(folder):
    for number in range(6):
        (folder / f"{number}.jpg").write_bytes(pictures.jpeg(number, 160, 120))
    (folder / "bad.png").write_bytes(b"<html>")
    return image_models.save_small(folder.parent / "model"), []


def recordings(folder):
    for number in range(4):
        (folder / f"{number}.flac").write_bytes(sounds.encoded(sounds.wave(2 + number), kind="FLAC"))
    (folder / "bad.mp3").write_bytes(b"no sound")
    windows = ["--window-seconds=2", "--long-documents=chunks"]
    return sounds.save(sounds.Yamnet(), folder.parent / "model"), ["--model-output=output_1", *windows]


def rows_of_tables(folder):
    table = tables.rows(20)
    table[3]["age"] = None
    tables.write(folder / "a.parquet", table, "parquet")
    return tables.features_model(folder.parent / "model"), []


def ids(folder):
    lists = [[3, 1, 2], [], *([number, 2 * number, 3] for number in range(1, 9))]
    pq.write_table(pa.table({"input_ids": pa.array(lists, pa.list_(pa.int32()))}), folder / "a.parquet")
    return text_models.save_decoder(folder.parent / "model"), ["--modality=tokens", "--pooling=last"]


def crawl(folder):
    pages = [warcs.crawled(f"https://a.example/{n}", warcs.page(f"page {n} has text")) for n in range(5)]
    (folder / "a.warc.gz").write_bytes(
        warcs.members([warcs.warcinfo(), *(one for page in pages for one in page)])
    )
    return text_models.save_nnlm(folder.parent / "model"), ["--keep-field=title"]


@pytest.mark.parametrize(
    "kind", [images, recordings, rows_of_tables, ids, crawl], ids=lambda kind: kind.__name__
)
def test_a_kind_of_documents(kind, flink_cluster, tmp_path, cli):
    (tmp_path / "in").mkdir()
    model, own = kind(tmp_path / "in")
    given = [
        f"--input={tmp_path / 'in'}",
        f"--model={model}",
        "--max-dead-letters=50%",
        "--shard-bytes=20000",
    ]
    here, there = tmp_path / "here", tmp_path / "there"
    assert cli("embed", *given, f"--output={here}", "--quiet", *own)[0] == 0
    flags = [*flink_cluster.options(), *remote.PROCESS, "--quiet"]
    assert cli("embed", *given, f"--output={there}", *flags, *own) == (0, "", "")
    assert jobs.rows(there) == jobs.rows(here)
    assert jobs.letters(there) == jobs.letters(here)
    assert jobs.rows(here)
    assert os.getpid() not in {receipt["pid"] for receipt in jobs.receipts(there)}


def test_another_model_over_the_rows_of_a_local_job(flink_cluster, finished, save_model, tmp_path, cli):
    given = ["migrate", finished, f"--model={save_model(window=32)}", "--shard-bytes=9000", "--quiet"]
    here, there = tmp_path / "here", tmp_path / "there"
    assert cli(*given, f"--output={here}")[0] == 0
    flags = [*flink_cluster.options(), *remote.PROCESS]
    assert cli(*given, f"--output={there}", *flags) == (0, "", "")
    assert jobs.rows(there) == jobs.rows(here)
    assert len({receipt["shard_id"] for receipt in jobs.receipts(there)}) > 1
    assert os.getpid() not in {receipt["pid"] for receipt in jobs.receipts(there)}
