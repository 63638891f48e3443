"""Every format in every compression, and files that end too early or are damaged."""

import gzip
import json
import sys

import pytest
from compressed import COMPRESS, zstd
from reading import read, read_slice, short, whole

from transforms.errors import BadFileError
from transforms.formats import registry
from transforms.formats.base import ReadOptions
from transforms.formats.compression import compression_of, open_decompressed
from transforms.formats.slices import check_slice

TEXTS = ["one", "zwei\U0001f600", "trois é"]
ROWS = [{"text": text, "id": i} for i, text in enumerate(TEXTS)]
DATA = {
    "lines": "\n".join(TEXTS),
    "txt": "\n".join(TEXTS),
    "jsonl": "\n".join(json.dumps(row) for row in ROWS),
    "csv": "id,text\r\n" + "".join(f'{row["id"]},"{row["text"]}"\r\n' for row in ROWS),
    "tsv": "text\tid\n" + "".join(f"{row['text']}\t{row['id']}\n" for row in ROWS),
}
EXPECTED = {
    "lines": list(zip(["f:0", "f:4", "f:13"], TEXTS, strict=True)),
    "txt": [("f", "\n".join(TEXTS))],
    "jsonl": list(zip(["f:0", "f:25", "f:63"], TEXTS, strict=True)),
    "csv": list(zip(["f:0", "f:1", "f:2"], TEXTS, strict=True)),
    "tsv": list(zip(["f:0", "f:1", "f:2"], TEXTS, strict=True)),
}


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("format", DATA)
def test_every_format_in_every_compression(tmp_path, format, suffix):
    data = COMPRESS[suffix](DATA[format].encode())
    found = short(read(tmp_path, data, format, name="f" + suffix))
    assert found == [(doc_id.replace("f", "f" + suffix), text, {}) for doc_id, text in EXPECTED[format]]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst", ".xz"])
def test_truncated_at_every_byte(tmp_path, suffix):
    data = COMPRESS[suffix](b"first line\nsecond line\n")
    for end in range(len(data)):
        path = tmp_path / f"f{suffix}"
        path.write_bytes(data[:end])
        for use in (check_slice, lambda *args: list(read_slice(*args))):
            with pytest.raises(BadFileError) as caught:
                use(whole(path, "lines"), ReadOptions())
            error = caught.value
            assert error.source == path.name
            assert error.reason.startswith(f"truncated {compression_of(path.name)}: ended after {end} bytes")
            assert error.reason.endswith("expected the end-of-stream marker; fetch the file again")
            assert error.position in range(24)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst", ".xz"])
def test_second_member_truncated_at_every_byte(tmp_path, suffix):
    first, second = COMPRESS[suffix](b"first line\n"), COMPRESS[suffix](b"second\n")
    assert short(read(tmp_path, first + second, "lines", name="f" + suffix)) == [
        (f"f{suffix}:0", "first line", {}),
        (f"f{suffix}:11", "second", {}),
    ]
    for end in range(1, len(second)):
        with pytest.raises(BadFileError, match="truncated"):
            read(tmp_path, first + second[:end], "lines", name="f" + suffix)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_a_flipped_byte_never_passes_for_other_text(tmp_path, suffix):
    text = b"first line\nsecond line\n"
    data = COMPRESS[suffix](text)
    for i in range(len(data)):
        path = tmp_path / f"f{suffix}"
        path.write_bytes(data[:i] + bytes([data[i] ^ 0x10]) + data[i + 1 :])
        try:
            with open_decompressed(str(path)) as stream:
                found = stream.read()
        except BadFileError:
            continue
        assert found == text  # a header's time or flags


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst", ".xz"])
def test_members(tmp_path, suffix):
    name, empty, more = "f" + suffix, COMPRESS[suffix](b""), COMPRESS[suffix](b"a\n")
    assert read(tmp_path, empty, "lines", name=name) == []
    assert read(tmp_path, empty, "csv", name=name) == []
    joined = read(tmp_path, empty + more + empty + more, "lines", name=name)
    assert short(joined) == [(f"{name}:0", "a", {}), (f"{name}:2", "a", {})]
    with pytest.raises(BadFileError, match=f"^{name} at 0: truncated .*: ended after 0 bytes"):
        read(tmp_path, b"", "lines", name=name)
    with pytest.raises(BadFileError, match=f"^{name} at 0: not .*, though its name says so: "):
        read(tmp_path, b"plain text, not compressed at all", "lines", name=name)
    with pytest.raises(BadFileError, match=f"^{name} at 2: (damaged|truncated) "):
        read(tmp_path, more + b"junk that follows the only member", "lines", name=name)


def test_zeros_may_follow_gzip(tmp_path):
    data = gzip.compress(b"a\n") + bytes(600_000)
    assert short(read(tmp_path, data, "lines", name="f.gz")) == [("f.gz:0", "a", {})]


def test_large_file_in_many_blocks(tmp_path):
    lines = [f"line {i} " + "x" * (i % 700) for i in range(20_000)]
    data = "\n".join(lines).encode()
    for suffix in (".gz", ".zst", ".bz2", ".xz"):
        path = tmp_path / f"f{suffix}"
        path.write_bytes(zstd.compress(data) if suffix == ".zst" else COMPRESS[suffix](data))
        assert [e.text for e in read_slice(whole(path, "lines"), ReadOptions())] == lines
        with open_decompressed(str(path)) as stream:
            assert stream.read() == data


def test_zstd_with_the_longest_window(tmp_path):
    options = {zstd.CompressionParameter.window_log: 28, zstd.CompressionParameter.checksum_flag: 1}
    compressor = zstd.ZstdCompressor(options=options)
    data = compressor.compress(b"a\n") + compressor.flush()
    assert short(read(tmp_path, data, "lines", name="f.zst")) == [("f.zst:0", "a", {})]


def test_limit_reads_no_further(tmp_path):
    data = gzip.compress(b"a\nb\n") + b"junk"
    assert [e.text for e in read(tmp_path, data, "lines", name="f.gz", limit=1)] == ["a"]


def test_formats_by_name():
    assert registry.format_of("a/b.c.JSONL.Zst") == "jsonl"
    assert [registry.format_of(name) for name in ("x.csv", "x.tab.xz", "x.md", "x.lines", "x.pq")] == [
        "csv",
        "tsv",
        "txt",
        "lines",
        "parquet",
    ]
    assert [registry.format_of(name) for name in ("x", "csv", "x.gz", "x.parquet.gz", "x.tfrecord.bz2")] == [
        None
    ] * 5
    assert registry.EXTENSIONS["tfrecord"] == (".tfrecord", ".tfrecords", ".tfrecord.gz", ".tfrecords.gz")
    assert registry.get("parquet").can_split("a.parquet")
    assert not registry.get("txt").can_split("a.txt")
    assert not registry.get("jsonl").can_split("a.jsonl.xz")


def test_import_is_light():
    import subprocess

    code = "import sys, transforms.formats.slices as _; "
    code += "print({'apache_beam', 'tensorflow', 'pyarrow'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
