import errno
import gc
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from apache_beam.io.filesystem import CompressionTypes, FileMetadata, FileSystem, MatchResult
from test_commit import (
    ELEMENTS,
    FAILURE,
    LETTERS,
    PART,
    PLAN,
    RECEIPT,
    SHARD,
    letter,
    row,
    temporary,
    tree,
    write,
)

from transforms.elements import EndOfShard, ShardFailed, ShardReceipt
from transforms.output.folder import Folder


def test_folder(tmp_path: Path) -> None:
    folder = Folder(f"file://{tmp_path}/a%20b/")
    assert folder.path == f"{tmp_path}/a b"
    assert (folder.read("x"), folder.names("sub"), folder.sweep()) == (None, {}, 0)
    folder.write("sub/x", b"12")
    folder.write("sub/deeper/y", b"1")
    assert (folder.read("sub/x"), folder.names("sub")) == (b"12", {"x": 2})
    folder.delete("sub/x")
    folder.delete("sub/x")
    assert folder.names("sub") == {}


def test_of_several_writers_of_a_new_file_one_wins(tmp_path: Path) -> None:
    folder, start = Folder(str(tmp_path)), threading.Barrier(8)

    def create(number: int) -> bool:
        start.wait()
        return folder.create_new("sub/x", str(number).encode())

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(create, range(8)))
    assert won.count(True) == 1
    assert folder.read("sub/x") == str(won.index(True)).encode()
    assert temporary(tmp_path) == []


def test_a_new_file_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    folder = Folder(str(tmp_path))
    assert [folder.create_new("x", data) for data in (b"1", b"2")] == [True, False]
    assert folder.read("x") == b"1"
    assert temporary(tmp_path) == []


def test_names_survive_files_that_vanish(tmp_path: Path) -> None:
    folder, stop = Folder(str(tmp_path)), threading.Event()
    for i in range(200):
        folder.write(f"kept{i}", b"1")
    keep = {f"kept{i}": 1 for i in range(200)}

    def churn() -> None:
        while not stop.is_set():
            for i in range(20):
                (tmp_path / f"gone{i}").write_bytes(b"1")
            for i in range(20):
                (tmp_path / f"gone{i}").unlink()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(300):
            assert keep.items() <= folder.names().items()
    finally:
        stop.set()
        thread.join()


def test_only_records_of_shards_count(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    for name in (".nfs0001", "x.tmp", f"{SHARD}.json.tmp", "notes.json", f"{SHARD}.json"):
        folder.write(f"_embedbeam/receipts/{name}", b"{}")
    assert folder.shards("_embedbeam/receipts") == {SHARD}


def test_a_process_sweeps_what_is_its_own_and_no_pid_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pods that share a mount have equal pids, and may have equal host names."""
    folder = Folder(str(tmp_path))
    mine = folder.create("x")
    code = (
        "import os, sys; os.getpid = lambda: int(sys.argv[2])\n"
        "from transforms.output.folder import Folder\n"
        "Folder(sys.argv[1]).create('x').write(b'1')\n"
        "os._exit(0)"
    )
    root = str(Path(__file__).resolve().parents[3])
    environment = os.environ | {"PYTHONPATH": root}
    command = [sys.executable, "-c", code, str(tmp_path), str(os.getpid())]
    subprocess.run(command, check=True, env=environment)
    assert len(temporary(tmp_path)) == 2
    assert folder.sweep(own=True) == 1
    assert len(temporary(tmp_path)) == 1
    mine.discard()
    assert folder.sweep() == 1


class Bucket(FileSystem):
    """An object store: an object appears when its upload is closed."""

    objects: dict[str, bytes] = {}  # noqa: RUF012  shared by all instances, as a store is

    @classmethod
    def scheme(cls) -> str:
        return "bucket"

    def join(self, base, *paths):
        return "/".join([base, *paths])

    def split(self, path):
        return tuple(path.rsplit("/", 1))

    def has_dirs(self):
        return False

    def mkdirs(self, path):
        pass

    def _list(self, prefix):
        for path, data in self.objects.items():
            if path.startswith(prefix):
                yield FileMetadata(path, len(data))

    def create(self, path, mime_type="", compression_type=CompressionTypes.AUTO):
        from apache_beam.io.filesystem import CompressedFile
        from apache_beam.io.filesystemio import Uploader, UploaderStream

        class Upload(Uploader):
            def __init__(self):
                self.data = b""

            def put(self, data):
                self.data += bytes(data)

            def finish(self):
                Bucket.objects[path] = self.data

        stream = io.BufferedWriter(UploaderStream(Upload()), buffer_size=4)
        if compression_type == CompressionTypes.AUTO:
            compression_type = CompressionTypes.detect_compression_type(path)
        if compression_type == CompressionTypes.UNCOMPRESSED:
            return stream
        return CompressedFile(stream, compression_type)

    def open(self, path, mime_type="", compression_type=CompressionTypes.AUTO):
        return io.BytesIO(self.objects[path])

    def exists(self, path):
        return path in self.objects

    def delete(self, paths):
        for path in paths:
            del self.objects[path]

    def _unused(self, *args):
        raise NotImplementedError

    copy = rename = size = last_updated = checksum = metadata = _unused


@pytest.fixture
def bucket() -> dict[str, bytes]:
    Bucket.objects.clear()
    return Bucket.objects


def test_a_shard_on_an_object_store(bucket: dict[str, bytes], tmp_path: Path) -> None:
    (receipt,) = write("bucket://b/out", ELEMENTS)
    write(tmp_path, ELEMENTS)
    local = tree(tmp_path)
    assert sorted(bucket) == [f"bucket://b/out/{name}" for name in (LETTERS, PLAN, RECEIPT, PART)]
    for name in (LETTERS, PART):
        assert bucket[f"bucket://b/out/{name}"] == local[name]
    assert ShardReceipt(**json.loads(Folder("bucket://b/out").read(RECEIPT) or b"")) == receipt
    assert Folder("bucket://b/out").names("_dead_letters") == {f"part-{SHARD}.jsonl": len(local[LETTERS])}


def test_gzip_on_an_object_store_is_compressed_once(bucket: dict[str, bytes]) -> None:
    elements = [row(0), EndOfShard(SHARD, 1)]
    (receipt,) = write("bucket://b/out", elements, format="tfrecord", gzip=True)
    data = bucket[f"bucket://b/out/part-{SHARD}.tfrecord.gz"]
    assert hashlib.sha256(data).hexdigest() == receipt.part_sha256
    assert len(data) == receipt.part_bytes
    assert data[:2] == b"\x1f\x8b"


def test_an_upload_that_was_given_up_never_appears(bucket: dict[str, bytes]) -> None:
    failed = ShardFailed(SHARD, "in.gz", None, "changed")
    write("bucket://b/out", [letter(0), failed])
    gc.collect()
    assert list(bucket) == [f"bucket://b/out/{PLAN}", f"bucket://b/out/{FAILURE}"]


def test_fakes_match(bucket: dict[str, bytes]) -> None:
    bucket["bucket://b/x/1"] = b"a"
    (found,) = Bucket(None).match(["bucket://b/x/*"])
    assert isinstance(found, MatchResult)
    assert [m.path for m in found.metadata_list] == ["bucket://b/x/1"]
