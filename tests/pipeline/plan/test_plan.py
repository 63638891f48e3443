"""Input patterns to shards: everything once, in order, the same every time."""

import dataclasses
import os
import shutil

import jobs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import Doc, read_slice

from pipeline.options.options import Options
from pipeline.plan.plan import KIB, MIB, default_shard_bytes, make_plan, pack, read_options
from pipeline.run import changes
from transforms.elements import Shard, Slice
from transforms.errors import UsageError
from transforms.modality.text import TEXT


def plan_of(*patterns, output="/nowhere/out", **given):
    options = Options(input=tuple(str(p) for p in patterns), output=str(output), **given)
    return make_plan(options), options


def read_all(plan, options):
    """Texts of the whole plan, in order."""
    elements = [e for s in plan.shards for p in s.slices for e in read_slice(p, read_options(options, TEXT))]
    assert all(isinstance(e, Doc) for e in elements)
    return [e.text for e in elements]


def sources(plan):
    return [piece.source for shard in plan.shards for piece in shard.slices]


@pytest.mark.parametrize(
    ("total", "parallelism", "expected"),
    [
        (0, 1, 64 * KIB),
        (MIB, 1, 64 * KIB),
        (16 * MIB, 1, MIB),
        (16 * MIB, 4, 256 * KIB),
        (100 * MIB, 1, 6400 * KIB),
        (1 << 30, 1, 8 * MIB),
        (1 << 30, 0, 8 * MIB),
        (1 << 40, 100, 8 * MIB),
        (10**13, 1000, 10**7),  # no more than a million shards
    ],
)
def test_default_shard_bytes(total, parallelism, expected):
    assert default_shard_bytes(total, parallelism) == expected


def test_shard_ids_depend_on_slices_alone():
    pieces = [Slice(f"/in/{i}", f"{i}", "txt", size=10, mtime=1.0, bytes=10) for i in range(6)]
    ids = [shard.shard_id for shard in pack(pieces, 20)]
    assert len(ids) == len(set(ids)) == 3
    moved = [dataclasses.replace(p, path=f"/elsewhere/{p.source}", mtime=2.0, size=99) for p in pieces]
    assert [shard.shard_id for shard in pack(moved, 20)] == ids
    assert [shard.shard_id for shard in pack(pieces[2:], 20)] == ids[1:]
    for field, value in (("source", "z"), ("format", "lines"), ("start", 1), ("end", 9), ("limit", 3)):
        (other, *_) = pack([dataclasses.replace(pieces[0], **{field: value}), *pieces[1:]], 20)
        assert other.shard_id != ids[0], field
    assert [Shard.from_line(shard.to_line()) for shard in pack(pieces, 20)] == pack(pieces, 20)


def test_the_same_plan_twice(corpus):
    assert plan_of(corpus, shard_bytes=3000) == plan_of(corpus, shard_bytes=3000)


def test_small_files_are_packed(tmp_path):
    for i in range(5000):
        (tmp_path / f"{i:05}.txt").write_text(f"note {i}")
    plan, options = plan_of(tmp_path)
    assert len(plan.shards) == 1
    assert read_all(plan, options) == [f"note {i}" for i in range(5000)]
    plan, options = plan_of(tmp_path, shard_bytes=9000)
    assert plan.files == 5000
    assert len(plan.shards) == -(-plan.input_bytes // 9000)
    assert read_all(plan, options) == [f"note {i}" for i in range(5000)]


@pytest.mark.parametrize("shard_bytes", [1, 7, 50, 333, 10_000, 10**6])
def test_large_files_are_split_on_lines(tmp_path, shard_bytes):
    lines = [f"line {i} " + "é" * (i * 7 % 90) for i in range(150)]
    (tmp_path / "a.lines").write_text("\r\n".join(lines), newline="")
    (tmp_path / "b.lines").write_text("\n".join(lines))
    plan, options = plan_of(tmp_path, shard_bytes=shard_bytes)
    assert read_all(plan, options) == lines + lines
    assert sum(p.bytes for s in plan.shards for p in s.slices) == plan.input_bytes
    if shard_bytes >= 50:
        assert max(sum(p.bytes for p in s.slices) for s in plan.shards) <= shard_bytes


def test_row_groups_are_split(tmp_path):
    texts = [f"text {i}" for i in range(1000)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=100)
    plan, options = plan_of(tmp_path, shard_bytes=2000)
    assert len(plan.shards) > 3
    assert read_all(plan, options) == texts


@pytest.mark.parametrize("limit", [1, 99, 100, 101, 250, 299, 300, 1000])
def test_limit_takes_the_first_documents(tmp_path, limit):
    for name in "abc":
        jobs.write_jsonl(tmp_path / f"{name}.jsonl", [{"text": f"{name}{i}"} for i in range(100)])
    plan, options = plan_of(tmp_path, shard_bytes=500, limit=limit)
    assert read_all(plan, options) == [f"{name}{i}" for name in "abc" for i in range(100)][:limit]


def test_what_is_never_read(tmp_path):
    for name in ("a.txt", ".hidden.txt", "_meta.txt", "sub/b.md", ".git/c.txt", "_tmp/d.txt", "out/e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    for pattern in (tmp_path, tmp_path / "**"):
        plan, _ = plan_of(pattern, output=tmp_path / "out")
        assert sources(plan) == ["a.txt", "sub/b.md"]
    with pytest.raises(UsageError, match=r"_meta\.txt: names that begin with '_' or '\.' are never read"):
        plan_of(tmp_path / "_meta.txt")


def test_the_same_names_below_two_roots(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(folder)
    plan, options = plan_of(tmp_path / "x", tmp_path / "y")
    assert sources(plan) == ["x/a.txt", "y/a.txt"]
    assert read_all(plan, options) == ["x", "y"]


def test_a_file_matched_twice_is_read_once(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.txt").write_text("y")
    for patterns in (("*.txt", "a.*"), ("", "a.txt"), ("a.txt", "a.txt", "b.txt")):
        plan, options = plan_of(*(tmp_path / p for p in patterns))
        assert read_all(plan, options) == ["x", "y"], patterns
        assert plan.files == 2


def test_names_that_are_no_unicode(tmp_path):
    for folder in (b"x", b"y"):
        os.mkdir(os.path.join(os.fsencode(tmp_path), folder))
        with open(os.path.join(os.fsencode(tmp_path), folder, b"caf\xe9.txt"), "w") as f:
            f.write("coffee")
    plan, options = plan_of(tmp_path / "x", tmp_path / "y")
    assert sources(plan) == ["x/caf\\xe9.txt", "y/caf\\xe9.txt"]
    assert read_all(plan, options) == ["coffee", "coffee"]


def test_nothing_to_read(tmp_path):
    (tmp_path / "README").write_text("x")
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(UsageError, match=r"\*\.jsonl: matches no file; check the path"):
        plan_of(tmp_path / "*.jsonl")
    with pytest.raises(UsageError, match=r"missing\.jsonl: matches no file"):
        plan_of(tmp_path / "missing.jsonl")
    with pytest.raises(
        UsageError, match=r"no file to read \(2 files of unknown kind there, e\.g\. .*README\)"
    ):
        plan_of(tmp_path)
    with pytest.raises(UsageError, match=r"a\.doc: its name does not tell its format; give --input-format"):
        plan_of(tmp_path / "*.doc")
    plan, _ = plan_of(tmp_path / "*.doc", input_format="lines")
    assert [p.format for s in plan.shards for p in s.slices] == ["lines"]


def test_a_folder_of_documents_of_another_kind(tmp_path):
    for name in ("a.jpg", "b.PNG"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UsageError) as e:
        plan_of(tmp_path)
    assert str(e.value) == (
        f"--input {tmp_path}: no file to read for --modality text, which is the model's or your choice; 2 "
        f"files there hold other documents, e.g. {tmp_path}/a.jpg (image): give a --model of these"
    )


def test_unreadable_footer_is_left_to_its_shard(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "good.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 but not really")
    plan, _ = plan_of(tmp_path, shard_bytes=1)
    assert [(s.slices[0].source, len(s.slices)) for s in plan.shards] == [
        ("bad.parquet", 1),
        ("good.parquet", 1),
    ]


@pytest.mark.slow
def test_two_hundred_thousand_notes(tmp_path, cli):
    for folder in range(200):
        os.mkdir(tmp_path / f"{folder:03}")
        for i in range(1000):
            with open(tmp_path / f"{folder:03}" / f"{i:03}.txt", "w") as f:
                f.write(f"note {folder} {i}")
    plan, _ = plan_of(tmp_path)
    assert (plan.files, len(plan.shards)) == (200_000, 17)
    assert len(set(sources(plan))) == 200_000
    code, out, err = cli("embed", f"--input={tmp_path}", "--output=/nowhere/out", "--dry-run")
    assert (code, err) == (0, "")
    assert out.splitlines()[:3] == [
        "files      200,000 (200,000 txt)",
        f"bytes      {plan.input_bytes:,}",
        "shards     17 of about 141,750 bytes",
    ]
    assert "documents  about 200,000" in out


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_file_reached_by_two_links_is_read_once(tmp_path, link):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
    (tmp_path / "y" / "a.txt").write_text("one")
    link(tmp_path / "y" / "a.txt", tmp_path / "x" / "z.txt")
    shutil.copy2(tmp_path / "y" / "a.txt", tmp_path / "y" / "copy.txt")
    plan, options = plan_of(tmp_path)
    assert sources(plan) == ["x/z.txt", "y/copy.txt"]
    assert read_all(plan, options) == ["one", "one"]
    plan, _ = plan_of(tmp_path / "y", tmp_path / "x" / "*.txt")
    assert sources(plan) == ["x/z.txt", "y/copy.txt"]


def test_what_has_become_of_the_input(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text(name)
    plan, options = plan_of(tmp_path)
    assert list(changes.notes(options, plan.shards)) == []
    (tmp_path / "a.txt").write_text("longer")
    stay = "rows that are committed stay as they are, --overwrite embeds anew"
    changed = "input files have changed since the plan was made, e.g."
    assert list(changes.notes(options, plan.shards)) == [f"1 {changed} {tmp_path}/a.txt; {stay}"]
    os.utime(tmp_path / "b.txt", (1, 1))
    (tmp_path / "c.txt").unlink()
    (tmp_path / "e.txt").write_text("e")
    assert list(changes.notes(options, plan.shards)) == [
        f"1 files came after the plan was made and are not embedded, e.g. {tmp_path}/e.txt; "
        "give them an output folder of their own",
        f"2 {changed} {tmp_path}/a.txt; {stay}",
        f"1 input files are gone since the plan was made, e.g. {tmp_path}/c.txt; {stay}",
    ]


def test_files_of_another_modality_are_not_read(tmp_path):
    (tmp_path / "a.md").write_text("text")
    (tmp_path / "logo.png").write_bytes(b"image")
    plan, _ = plan_of(tmp_path)
    assert sources(plan) == ["a.md"]
    assert plan.unknown == (str(tmp_path / "logo.png"),)
    for pattern, more in (
        ("*.png", {}),
        ("logo.png", {"input_format": "image"}),
        ("", {"input_format": "image"}),
    ):
        with pytest.raises(UsageError, match=r"logo\.png: image files hold no documents of --modality text"):
            plan_of(tmp_path / pattern, **more)
