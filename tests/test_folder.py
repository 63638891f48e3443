import gc
import hashlib
import io
import json
from pathlib import Path

import pytest
from apache_beam.io.filesystem import CompressionTypes, FileMetadata, FileSystem, MatchResult
from test_commit import ELEMENTS, FAILURE, LETTERS, PART, RECEIPT, SHARD, letter, row, tree, write

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
    (receipt,) = write("bucket://b/out", ELEMENTS)  # type: ignore[arg-type]
    write(tmp_path, ELEMENTS)
    local = tree(tmp_path)
    assert sorted(bucket) == [f"bucket://b/out/{name}" for name in (LETTERS, RECEIPT, PART)]
    for name in (LETTERS, PART):
        assert bucket[f"bucket://b/out/{name}"] == local[name]
    assert ShardReceipt(**json.loads(Folder("bucket://b/out").read(RECEIPT) or b"")) == receipt
    assert Folder("bucket://b/out").names("_dead_letters") == {"part-a1.jsonl": len(local[LETTERS])}


def test_gzip_on_an_object_store_is_compressed_once(bucket: dict[str, bytes]) -> None:
    elements = [row(0), EndOfShard(SHARD, 1)]
    (receipt,) = write("bucket://b/out", elements, format="tfrecord", gzip=True)  # type: ignore[arg-type]
    data = bucket["bucket://b/out/part-a1.tfrecord.gz"]
    assert hashlib.sha256(data).hexdigest() == receipt.part_sha256
    assert len(data) == receipt.part_bytes
    assert data[:2] == b"\x1f\x8b"


def test_an_upload_that_was_given_up_never_appears(bucket: dict[str, bytes]) -> None:
    failed = ShardFailed(SHARD, "in.gz", None, "changed")
    write("bucket://b/out", [letter(0), failed])  # type: ignore[arg-type]
    gc.collect()
    assert list(bucket) == [f"bucket://b/out/{FAILURE}"]


def test_fakes_match(bucket: dict[str, bytes]) -> None:
    bucket["bucket://b/x/1"] = b"a"
    (found,) = Bucket(None).match(["bucket://b/x/*"])
    assert isinstance(found, MatchResult)
    assert [m.path for m in found.metadata_list] == ["bucket://b/x/1"]
