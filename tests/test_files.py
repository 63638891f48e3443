"""Listing and opening files, local ones and those of a file system that Beam serves."""

import errno
import io
import os
import resource
import time

import pytest
from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem
from reading import read_slice

from transforms.elements import Slice
from transforms.errors import BadFileError, StoreError, UsageError
from transforms.formats.base import ReadOptions
from transforms.formats.parquet import row_groups
from transforms.formats.slices import check_slice
from transforms.storage import files, listing

STORE: dict[str, bytes] = {}


class StoreFileSystem(FileSystem):
    """An object store of this process: mem://bucket/key."""

    @classmethod
    def scheme(cls):
        return "mem"

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path):
        return tuple(path.rsplit("/", 1))

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        for path in sorted(STORE):
            if path.startswith(dir_or_prefix):
                yield self.metadata(path)

    def exists(self, path):
        return path in STORE

    def metadata(self, path):
        return FileMetadata(path, len(STORE[path]), 1000.5)

    def open(self, path, mime_type="application/octet-stream", compression_type="auto"):
        assert compression_type == "uncompressed"
        if path not in STORE:
            raise BeamIOError(f"no such object: {path}")
        return io.BytesIO(STORE[path])

    def size(self, path):
        return len(STORE[path])

    def last_updated(self, path):
        return 1000.5

    def checksum(self, path):
        raise NotImplementedError

    def _refuse(self, *args, **options):
        raise NotImplementedError

    mkdirs = create = copy = rename = delete = _refuse


@pytest.fixture
def store():
    STORE.clear()
    yield STORE
    STORE.clear()


TREE = [
    "a.txt",
    "b.jsonl",
    "a[1].txt",
    "sub/c.txt",
    "sub/deep/d.txt",
    "sub/deep/e.jsonl",
    "set[1]/f.txt",
    "sub2/g.txt",
    ".hidden.txt",
    "_SUCCESS",
    "sub/_temporary/x.txt",
    ".git/y.txt",
    "sub/_z.txt",
]
VISIBLE = [name for name in TREE if not any(part[0] in "._" for part in name.split("/"))]

PATTERNS = [
    ("", "", VISIBLE),
    ("/", "", VISIBLE),
    ("/*.txt", "", ["a.txt", "a[1].txt"]),
    ("/?.txt", "", ["a.txt"]),
    ("/[ab].*", "", ["a.txt", "b.jsonl"]),
    ("/[!a].*", "", ["b.jsonl"]),
    ("/**", "", VISIBLE),
    ("/**/*.txt", "", [name for name in VISIBLE if name.endswith(".txt")]),
    ("/sub/**/*.txt", "/sub", ["c.txt", "deep/d.txt"]),
    ("/*/deep/*", "", ["sub/deep/d.txt", "sub/deep/e.jsonl"]),
    ("/sub*/*", "", ["sub/c.txt", "sub2/g.txt"]),
    ("/**/deep/**", "", ["sub/deep/d.txt", "sub/deep/e.jsonl"]),
    ("/a.txt", "", ["a.txt"]),
    ("/a[1].txt", "", ["a[1].txt"]),
    ("/sub/deep", "/sub/deep", ["d.txt", "e.jsonl"]),
    ("/sub/_temporary", "/sub/_temporary", ["x.txt"]),
    ("/_*", "", []),
    ("/no/such.txt", "/no", []),
    ("/no*/x", "", []),
]


@pytest.fixture
def tree(tmp_path):
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return str(tmp_path)


@pytest.mark.parametrize(("pattern", "root", "expected"), PATTERNS)
def test_local_patterns(tree, pattern, root, expected):
    for prefix in (tree, "file://" + tree):
        found_root, found = listing.list_files(prefix + pattern)
        assert found_root == tree + root
        assert [file.source for file in found] == sorted(expected)
        for file in found:
            state = os.stat(file.path)
            assert file == (f"{found_root}/{file.source}", file.source, state.st_size, state.st_mtime)


@pytest.mark.parametrize(("pattern", "root", "expected"), [p for p in PATTERNS if p[0] != "/no/such.txt"])
def test_remote_patterns(store, pattern, root, expected):
    store.update({f"mem://bucket/dir/{name}": name.encode() for name in [*TREE, "empty/"]})
    found_root, found = listing.list_files("mem://bucket/dir" + pattern)
    assert found_root == "mem://bucket/dir" + root
    assert found == [
        (f"{found_root}/{name}", name, len(f"{found_root}/{name}".removeprefix("mem://bucket/dir/")), 1000.5)
        for name in sorted(expected)
    ]


def test_names_in_brackets(tree, store):
    assert [f.source for f in listing.list_files(tree + "/set[1]/*.txt")[1]] == ["f.txt"]
    assert listing.list_files(tree + "/set[1]/*.txt")[0] == tree + "/set[1]"
    store["mem://b/a[1].txt"] = b"abc"
    assert files.file_state("mem://b/a[1].txt") == (3, 1000.5)


def test_home_and_working_folder(tree, monkeypatch):
    monkeypatch.setenv("HOME", tree)
    assert listing.list_files("~/sub2") == listing.list_files(tree + "/sub2")
    monkeypatch.chdir(tree)
    assert listing.list_files("sub2/*") == listing.list_files(tree + "/sub2")


def test_hidden_file_by_name(tree, store):
    store["mem://b/_x"] = b""
    for path in (tree + "/_SUCCESS", tree + "/.hidden.txt", "mem://b/_x"):
        with pytest.raises(
            UsageError, match=r"names that begin with '_' or '\.' are never read .*; rename the file$"
        ):
            listing.list_files(path)


def test_exclude(tree, store):
    expected = [name for name in sorted(VISIBLE) if not name.startswith("sub/")]
    assert [f.source for f in listing.list_files(tree, exclude=tree + "/sub/")[1]] == expected
    os.symlink(tree + "/sub", tree + "/link")
    assert [f.source for f in listing.list_files(tree, exclude=tree + "/sub")[1]] == expected
    for pattern in ("/sub/deep", "/sub/c.txt", "/sub/*"):
        assert listing.list_files(tree + pattern, exclude=tree + "/sub")[1] == []
    assert len(listing.list_files(tree, exclude=tree + "/not there")[1]) > len(expected)
    store.update({f"mem://b/{name}": b"" for name in TREE})
    assert [f.source for f in listing.list_files("mem://b", exclude="mem://b/sub")[1]] == expected


def test_links(tree):
    os.symlink(tree, tree + "/sub2/loop")
    os.symlink(tree + "/sub/deep", tree + "/deeplink")
    os.symlink(tree + "/a.txt", tree + "/filelink.txt")
    sources = [f.source for f in listing.list_files(tree)[1]]
    assert sources == sorted([*VISIBLE, "deeplink/d.txt", "deeplink/e.jsonl", "filelink.txt"])
    os.symlink(tree + "/nowhere", tree + "/dangling")
    with pytest.raises(UsageError, match=r"dangling is a link to nothing; mend or remove it$"):
        listing.list_files(tree)


def test_no_permission(tree, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(
        UsageError, match=r"^cannot list .*: Permission denied; check the path and your rights$"
    ):
        listing.list_files(tree)


def test_unknown_scheme_and_irregular_file(tree):
    with pytest.raises(UsageError, match=r"^cannot list nosuch://b/x"):
        listing.list_files("nosuch://b/x")
    os.mkfifo(tree + "/pipe")
    with pytest.raises(UsageError, match=r"pipe is not a regular file"):
        listing.list_files(tree + "/pipe")
    assert "pipe" not in [f.source for f in listing.list_files(tree)[1]]


def test_names_that_are_not_utf8(tmp_path):
    (tmp_path / os.fsdecode(b"a\xff.txt")).write_text("x")
    ((path, source, *_),) = listing.list_files(str(tmp_path))[1]
    assert source == "a\\xff.txt"
    with files.open_read(path) as stream:
        assert stream.read() == b"x"


def test_file_url(tree):
    assert files.is_local("file:///x")
    assert not files.is_local("gs://b/x")
    (name,) = [f for f in listing.list_files(tree)[1] if f.source == "a.txt"]
    os.rename(name.path, tree + "/a b.txt")
    with files.open_read(f"file://{tree}/a%20b.txt") as stream:
        assert stream.read() == b"a.txt"
    with pytest.raises(FileNotFoundError):
        files.file_state(tree + "/a.txt")


def test_reading_remote_files(store, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["one", "two", "three"]}), tmp_path / "f", row_group_size=2)
    contents = {
        "lines": b"one\ntwo\nthree",
        "jsonl": b'{"text": "one"}\n{"text": "two"}\n{"text": "three"}',
        "csv": b"text\none\ntwo\nthree\n",
        "parquet": (tmp_path / "f").read_bytes(),
    }
    for format, data in contents.items():
        store["mem://b/f"] = data
        piece = Slice("mem://b/f", "f", format, size=len(data), mtime=1000.5)
        check_slice(piece, ReadOptions())
        assert [e.text for e in read_slice(piece, ReadOptions())] == ["one", "two", "three"]
    piece = Slice("mem://b/f", "f", "parquet", start=1, end=2, size=len(data))
    assert [e.text for e in read_slice(piece, ReadOptions())] == ["three"]
    assert [rows for rows, _ in row_groups("mem://b/f")] == [2, 1]
    del store["mem://b/f"]
    with pytest.raises(BadFileError, match=r"^f: the file is gone; it was there when the plan was made$"):
        list(read_slice(piece, ReadOptions()))


def test_one_reading_of_file_urls(tmp_path):
    (tmp_path / "a b.txt").write_text("one")
    for url in (f"file://{tmp_path}/a%20b.txt", f"file://localhost{tmp_path}/a%20b.txt"):
        path = str(tmp_path / "a b.txt")
        assert files.local_path(url) == files.absolute_path(url) == files.full_path(url) == path
        assert files.file_state(url)[0] == 3
    assert files.local_path("/a%20b") == "/a%20b"


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ESTALE, StoreError), (errno.ETIMEDOUT, StoreError), (errno.EACCES, BadFileError)],
)
def test_what_passes_is_no_fault_of_the_file(tmp_path, monkeypatch, number, expected):
    (tmp_path / "a.txt").write_text("one")
    piece = Slice(str(tmp_path / "a.txt"), "a.txt", "txt", size=3)

    def fail(path, *args, **kwargs):
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(files.os, "stat", fail)
    for look in (check_slice, lambda *given: list(read_slice(*given))):
        with pytest.raises(expected, match=os.strerror(number)):
            look(piece, ReadOptions())


def test_no_descriptors_left_is_no_fault_of_the_file(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    piece = Slice(str(tmp_path / "a.txt"), "a.txt", "txt", size=3)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(StoreError) as e:
            list(read_slice(piece, ReadOptions()))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert str(e.value) == (
        "a.txt: cannot be read for the moment: Too many open files; what is committed is kept: mend this, "
        "then run the same command again"
    )


def test_many_files(tmp_path):
    for i in range(20_000):
        if i % 1000 == 0:
            os.mkdir(tmp_path / f"d{i // 1000:02}")
        os.close(os.open(tmp_path / f"d{i // 1000:02}" / f"{i:05}.txt", os.O_CREAT))
    started = time.process_time()
    _, found = listing.list_files(str(tmp_path))
    assert time.process_time() - started < 2  # a fifth of a second where nothing else runs
    assert [file.source for file in found] == [f"d{i // 1000:02}/{i:05}.txt" for i in range(20_000)]
