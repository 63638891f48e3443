"""`embedbeam dedup` as people run it."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jobs
import pictures
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stores

WORDS = (
    "the quick brown fox jumps over the lazy dog and sees that no other animal of the wood is as fast as it"
)
NEAR = WORDS.replace("fast as", "fast or slow as")
FILES = {
    "a.jsonl": [
        {"id": "first", "text": WORDS},
        {"id": "other", "text": "something else"},
        {"id": "dead", "text": " "},
        {"id": "copy", "text": WORDS},
    ],
    "b.jsonl": [
        {"id": "near", "text": NEAR},
        {"id": "shout", "text": WORDS.upper() + "!"},
        {"id": "near copy", "text": NEAR},
        {"id": "far", "text": WORDS.replace("animal", "one").replace("fox", "cat").replace("sees", "saw")},
    ],
}
SHARED = 19 / 25  # of 21 and 23 shingles, all but two and four are in both
BYTES = sum(len(one["text"]) for records in FILES.values() for one in records if one["id"] != "dead")
FIRST = {"of": "first", "of_source": "a.jsonl", "of_position": 0, "group_size": 5}
EXPECTED = [
    {"doc_id": "copy", "source": "a.jsonl", "kind": "exact"} | FIRST,
    {"doc_id": "near", "source": "b.jsonl", "kind": "near"} | FIRST,
    {"doc_id": "shout", "source": "b.jsonl", "kind": "near"} | FIRST,
    {"doc_id": "near copy", "source": "b.jsonl", "kind": "near"} | FIRST,
]


@pytest.fixture(scope="module")
def corpus_of_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dedup")
    for name, records in FILES.items():
        jobs.write_jsonl(folder / "in" / name, records)
    return folder / "in"


def dedup(*arguments, **kwargs):
    """Runs the console script in a fresh process, which tells at last what it imported."""
    script = Path(sys.executable).with_name("embedbeam")
    code = (
        "import runpy, sys\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally:\n    print(*{'tensorflow', 'apache_beam'} & sys.modules.keys())"
    )
    code = code.replace("sys\n", f"sys; sys.argv[0] = {str(script)!r}\n", 1)
    return jobs.run(sys.executable, "-c", code, "dedup", *arguments, **kwargs)


def check_rows(table):
    rows = table.to_pylist()
    assert [row.pop("similarity") for row in rows] == pytest.approx([1.0, SHARED, 1.0, SHARED])
    lines = {name: [json.dumps(one) + "\n" for one in records] for name, records in FILES.items()}
    starts = [sum(map(len, lines["a.jsonl"][:3])), *(sum(map(len, lines["b.jsonl"][:i])) for i in range(3))]
    assert [row.pop("position") for row in rows] == starts
    assert rows == EXPECTED


def test_the_command_needs_no_model(corpus_of_two, tmp_path):
    flags = ["--id-field=id", "--near-duplicates=0.7", "--to=out/rows.parquet"]
    done = dedup("--input", corpus_of_two, *flags, "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    told, imported = done.stdout.splitlines()
    assert imported == ""
    made = json.loads(told)
    [group] = made.pop("largest")
    assert made == {
        "documents": 7, "dead_letters": 1, "distinct": 5, "kept": 3, "exact": 1, "near": 3, "groups": 1,
        "bytes": BYTES, "bytes_left_out": 2 * len(WORDS) + 1 + 2 * len(NEAR),
        "near_duplicates": 0.7, "rows": "out/rows.parquet",
    }  # fmt: skip
    others = group.pop("others")
    assert group == {
        "doc_id": "first", "source": "a.jsonl", "position": 0, "excerpt": WORDS[:80], "group_size": 5
    }  # fmt: skip
    assert [one["doc_id"] for one in others] == ["copy", "near", "shout"]
    check_rows(pq.read_table(tmp_path / "out" / "rows.parquet"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["out", "rows.parquet"]


def test_in_words(cli, corpus_of_two):
    code, out, err = cli("dedup", "--input", corpus_of_two, "--id-field=id")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "           7  documents, and 1 dead letters",
        "           2  exact copies of others (5 payloads are distinct)",
        "           5  are left",
        f"bytes of payloads: {BYTES}; without duplicates {(len(WORDS) + len(NEAR)) / BYTES:.1%} less",
        "the largest of 2 groups:",
        f"           2  first  {WORDS[:80]!r}",
        "              copy (1)",
        f"           2  near  {NEAR[:80]!r}",
        "              near copy (1)",
    ]


def test_nothing_is_double(cli, tmp_path):
    jobs.write_jsonl(tmp_path / "in.jsonl", [{"text": "one"}, {"text": "two"}])
    code, out, _ = cli("dedup", "--input", tmp_path / "in.jsonl", "--near-duplicates=0.5", "--json")
    made = json.loads(out)
    assert (code, made["kept"], made["groups"], made["largest"]) == (0, 2, 0, [])
    code, _, _ = cli("dedup", "--input", tmp_path / "in.jsonl", "--to", tmp_path / "rows.parquet", "--quiet")
    rows = pq.read_table(tmp_path / "rows.parquet")
    assert (code, rows.num_rows, rows.column_names[:4]) == (0, 0, ["doc_id", "source", "position", "of"])


@pytest.mark.parametrize("kind", ["images", "tokens", "gzip"])
def test_documents_of_every_kind(cli, tmp_path, kind):
    folder = tmp_path / "in"
    folder.mkdir()
    flags = []
    if kind == "images":
        for name, number in (("a.jpg", 1), ("b.jpg", 2), ("c.jpg", 1)):
            (folder / name).write_bytes(pictures.jpeg(number, 32, 32))
    elif kind == "tokens":
        ids = pa.array([[1, 2], [3], [1, 2]], pa.list_(pa.int32()))
        pq.write_table(pa.table({"input_ids": ids}), folder / "a.parquet")
        flags = ["--modality=tokens"]
    else:
        text = "".join(json.dumps({"text": text}) + "\n" for text in ("x", "y", "x"))
        (folder / "a.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    code, out, err = cli("dedup", "--input", folder, "--json", *flags)
    made = json.loads(out)
    assert (code, err) == (0, "")
    assert (made["documents"], made["exact"], made["kept"]) == (3, 1, 2)
    [group] = made["largest"]
    first, second = {
        "images": ("a.jpg", "c.jpg"), "tokens": ("a.parquet:0", "a.parquet:2"), "gzip": ("a.jsonl.gz:0", None)
    }[kind]  # fmt: skip
    assert group["doc_id"] == first
    assert second in (None, group["others"][0]["doc_id"])


JACCARD = "expected a Jaccard similarity above 0, and 1 at most, like 0.9; see `embedbeam dedup --help`"


def test_bad_input_is_told_in_a_line(cli, tmp_path):
    source = jobs.write_jsonl(tmp_path / "in.jsonl", [{"text": "one"}])
    dead = jobs.write_jsonl(tmp_path / "dead.jsonl", [{"text": 5}, {"text": " "}])
    (tmp_path / "a.jpg").write_bytes(pictures.jpeg(1, 32, 32))
    near = "--near-duplicates=0.9"
    for arguments, words in (
        (["--input", tmp_path / "none*"], "none*: matches no file"),
        (["--input", source, "--near-duplicates=0"], f"--near-duplicates: '0': {JACCARD}"),
        (["--input", source, "--near-duplicates=1.5"], f"--near-duplicates: '1.5': {JACCARD}"),
        (["--input", source, "--near-duplicates=nan"], f"--near-duplicates: 'nan': {JACCARD}"),
        (["--input", source, "--near-duplicates=x"], f"--near-duplicates: 'x': {JACCARD}"),
        (["--input", tmp_path / "a.jpg", near], "these documents are of --modality image"),
        (["--input", source, "--modality=tabular"], "--modality tabular: which columns are a document"),
        (["--input", source, "--to", tmp_path], "is a folder; expected the name of a file"),
        (["--input", dead], "all 2 records are dead letters, the first: dead.jsonl at 0"),
        (["--input", source, "--text-field=body"], "missing field 'body'"),
        ([], "the following arguments are required: --input"),
    ):  # fmt: skip
        code, out, err = cli("dedup", *arguments)
        assert (code, out, len(err.splitlines())) == (2, "", 1), arguments
        assert words in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "dead.jsonl", "in.jsonl"]


def test_a_bad_file_ends_it_or_is_a_dead_letter(cli, tmp_path):
    jobs.write_jsonl(tmp_path / "a.jsonl", [{"text": "one"}, {"text": "one"}])
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "one"}\n' * 999)[:-20])
    code, _, err = cli("dedup", "--input", tmp_path)
    assert (code, len(err.splitlines())) == (1, 1)
    assert "b.jsonl.gz" in err
    code, out, _ = cli("dedup", "--input", tmp_path, "--skip-bad-files", "--json")
    made = json.loads(out)
    assert (code, made["documents"], made["dead_letters"], made["exact"]) == (0, 2, 1, 1)


def test_quiet_and_near_duplicates_in_its_help(cli):
    code, out, _ = cli("dedup", "--help")
    words = " ".join(out.split())
    assert code == 0
    assert "--quiet do not say what is being done" in words
    assert "no summary" not in words


def test_without_its_packages_it_says_which(cli, tmp_path, monkeypatch):
    source = jobs.write_jsonl(tmp_path / "in.jsonl", [{"text": "one"}])
    found = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "rensa" else found(name))
    code, _, err = cli("dedup", "--input", source, "--near-duplicates=0.9")
    assert code == 2
    assert "near_duplicates need rensa: pip install 'embedbeam[dedup]'" in err.replace(
        "--near-duplicates", "near_duplicates"
    )


@pytest.mark.slow
def test_stopped_it_leaves_nothing(tmp_path):
    source = jobs.write_jsonl(
        tmp_path / "in.jsonl", [{"text": f"{WORDS} {i} {WORDS}"} for i in range(100_000)]
    )
    spilled = tmp_path / "spilled"
    spilled.mkdir()
    command = [*jobs.EMBED[:3], "dedup", "--input", str(source), "--near-duplicates=0.9"]
    with subprocess.Popen(command, env=os.environ | {"TMPDIR": str(spilled)}, cwd=jobs.ROOT) as process:
        while not any(spilled.rglob("shingles")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert list(spilled.iterdir()) == []


@pytest.mark.stores
@pytest.mark.slow
def test_in_a_store(corpus_of_two, monkeypatch):
    with stores.s3_server() as store:
        for name, value in store.environment().items():
            monkeypatch.setenv(name, value)
        store.put_folder("in", corpus_of_two)
        flags = ["--id-field=id", "--near-duplicates=0.7", "--to", store.url("rows.parquet"), *store.flags()]
        done = dedup("--input", store.url("in/*.jsonl"), *flags, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout.splitlines()[0])["near"] == 3
        check_rows(pq.read_table(pa.BufferReader(store.objects()["rows.parquet"])))
