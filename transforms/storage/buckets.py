"""Objects of Amazon S3 and Google Cloud Storage, through their own clients, one of each in a process.

Beam's file systems make a client for each operation on S3, and repeat for many minutes what fails. Endpoints
and credentials come from Beam's options all the same.
"""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

from transforms.errors import EmbedbeamError
from transforms.storage.retries import reason_of, retried, s3_code, status_of

SCHEMES = ("s3", "gs")
CONNECT_SECONDS, READ_SECONDS = 5.0, 20.0  # for an answer; a large upload gives one for every block
_BLOCK = 8 << 20  # bytes of a request: what an open file or an upload holds in memory
_KIND = "application/octet-stream"
_T = TypeVar("_T")


class S3:
    """What is asked of S3."""

    def __init__(self, options: Any):
        self.client = s3_client(options)

    def list(self, bucket: str, prefix: str) -> list[tuple[str, int, float]]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        items = [item for page in pages for item in page.get("Contents", ())]
        return [(item["Key"], item["Size"], item["LastModified"].timestamp()) for item in items]

    def state(self, bucket: str, key: str) -> tuple[int, float]:
        head = self.client.head_object(Bucket=bucket, Key=key)
        return head["ContentLength"], head["LastModified"].timestamp()

    def read(self, bucket: str, key: str, begin: int | None = None, end: int | None = None) -> bytes:
        span = {} if end is None else {"Range": f"bytes={begin}-{end - 1}"}
        return self.client.get_object(Bucket=bucket, Key=key, **span)["Body"].read()

    def upload(self, bucket: str, key: str, file: BinaryIO, size: int) -> None:
        if size <= _BLOCK:
            self.client.put_object(Bucket=bucket, Key=key, Body=file.read(), ContentType=_KIND)
            return
        from boto3.s3.transfer import TransferConfig

        blocks = TransferConfig(multipart_threshold=_BLOCK, multipart_chunksize=_BLOCK, use_threads=False)
        self.client.upload_fileobj(file, bucket, key, {"ContentType": _KIND}, Config=blocks)

    def create(self, bucket: str, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=bucket, Key=key, Body=data, ContentType=_KIND, IfNoneMatch="*")

    def delete(self, bucket: str, key: str) -> None:
        self.client.delete_object(Bucket=bucket, Key=key)


class GCS:
    """What is asked of Google Cloud Storage."""

    def __init__(self, options: Any):
        from apache_beam.io.gcp.gcsio import create_storage_client
        from google.cloud.storage.retry import DEFAULT_RETRY

        self.client = create_storage_client(options, use_credentials=wants_credentials(options))
        self._once: dict[str, Any] = {"retry": None, "timeout": (CONNECT_SECONDS, READ_SECONDS)}
        self._block_again = DEFAULT_RETRY.with_timeout(10.0)

    def list(self, bucket: str, prefix: str) -> list[tuple[str, int, float]]:
        found = self.client.list_blobs(bucket, prefix=prefix, **self._once)
        return [(blob.name, blob.size, blob.updated.timestamp()) for blob in found]

    def state(self, bucket: str, key: str) -> tuple[int, float]:
        blob = self.client.bucket(bucket).blob(key)
        blob.reload(**self._once)
        return blob.size, blob.updated.timestamp()

    def read(self, bucket: str, key: str, begin: int | None = None, end: int | None = None) -> bytes:
        blob = self.client.bucket(bucket).blob(key)
        last = None if end is None else end - 1
        # Raw: a file that the store would unpack on its way has another size than it says.
        return blob.download_as_bytes(start=begin, end=last, raw_download=True, **self._once)

    def upload(self, bucket: str, key: str, file: BinaryIO, size: int) -> None:
        blob = self.client.bucket(bucket).blob(key, chunk_size=_BLOCK)
        again = (
            {"retry": self._block_again} if size > _BLOCK else {}
        )  # a block rather than all of a large file
        blob.upload_from_file(file, size=size, content_type=_KIND, **{**self._once, **again})

    def create(self, bucket: str, key: str, data: bytes) -> None:
        blob = self.client.bucket(bucket).blob(key)
        blob.upload_from_string(data, content_type=_KIND, if_generation_match=0, **self._once)

    def delete(self, bucket: str, key: str) -> None:
        self.client.bucket(bucket).blob(key).delete(**self._once)


def s3_client(options: Any) -> Any:
    """An S3 client with the endpoint and the credentials of Beam's options, or of AWS's own places."""
    import boto3
    import botocore.config
    from apache_beam.options.pipeline_options import S3Options

    given = options.view_as(S3Options)
    return boto3.session.Session().client(
        "s3",
        region_name=given.s3_region_name,
        api_version=given.s3_api_version,
        use_ssl=not given.s3_disable_ssl,
        verify=given.s3_verify,
        endpoint_url=given.s3_endpoint_url,
        aws_access_key_id=given.s3_access_key_id,
        aws_secret_access_key=given.s3_secret_access_key,
        aws_session_token=given.s3_session_token,
        config=botocore.config.Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": 3},  # a block again, rather than all of a large file
        ),
    )


def wants_credentials(options: Any) -> bool:
    """Whether Google's store asks who comes; Beam itself looks for credentials even with --no_auth."""
    from apache_beam.options.pipeline_options import GoogleCloudOptions

    return not (options.view_as(GoogleCloudOptions).no_auth or os.environ.get("STORAGE_EMULATOR_HOST"))


_stores: dict[str, tuple[Any, S3 | GCS]] = {}  # by scheme: the options they were made with, and they
_lock = threading.Lock()


def _store(scheme: str) -> S3 | GCS:
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    options = FileSystems._pipeline_options  # in a worker, Beam puts the job's options there and nowhere else
    with _lock:
        made_with, store = _stores.get(scheme, (None, None))
        if store is None or made_with is not options:
            store = (S3 if scheme == "s3" else GCS)(options or PipelineOptions([]))
            _stores[scheme] = (options, store)
        return store


def is_object(path: str) -> bool:
    """Whether a path is one of the stores'."""
    return path.partition("://")[0] in SCHEMES


def _ask(path: str, operation: Callable[[S3 | GCS, str, str], _T]) -> _T:
    """Runs an operation on a path's store, bucket and key, with patience.

    Raises:
      FileNotFoundError, PermissionError: the store says so.
      EmbedbeamError: it says something else, or nothing for a long time. Not an OSError, which a reader
        takes for one bad file.
    """
    scheme, _, rest = path.partition("://")
    bucket, _, key = rest.partition("/")
    try:
        return retried(lambda: operation(_store(scheme), bucket, key))
    except Exception as e:
        status = status_of(e)
        if status == 404 and s3_code(e) != "NoSuchBucket":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from e
        if status in (409, 412):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from e
        if status in (401, 403):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path) from e
        raise EmbedbeamError(
            f"{path}: the store fails ({reason_of(e)}); what is committed is kept: mend this, then run the "
            "same command again"
        ) from e


def list_objects(prefix: str) -> list[tuple[str, int, float]]:
    """Path, size and time of the last change of all objects whose path begins so."""
    bucket = "/".join(prefix.split("/", 3)[:3])
    return [(f"{bucket}/{k}", size, time) for k, size, time in _ask(prefix, lambda s, b, p: s.list(b, p))]


def object_state(path: str) -> tuple[int, float]:
    """Size and time of the last change."""
    return _ask(path, lambda store, bucket, key: store.state(bucket, key))


def read_object(path: str) -> bytes | None:
    """A small object's bytes; None where there is none."""
    try:
        return _ask(path, lambda store, bucket, key: store.read(bucket, key))
    except FileNotFoundError:
        return None


def read_head(path: str, size: int) -> bytes:
    """The first bytes of an object that is not empty."""
    return _ask(path, lambda store, bucket, key: store.read(bucket, key, 0, size))


def delete_object(path: str) -> None:
    """Deletes an object; one that is not there is no error."""
    try:
        _ask(path, lambda store, bucket, key: store.delete(bucket, key))
    except FileNotFoundError:
        return


def upload_object(file: BinaryIO, path: str) -> None:
    """Uploads a whole file; the object appears, or changes, when all of it is there."""
    size = file.seek(0, os.SEEK_END)

    def upload(store: S3 | GCS, bucket: str, key: str) -> None:
        file.seek(0)
        store.upload(bucket, key, file, size)

    _ask(path, upload)


def put_if_absent(path: str, data: bytes) -> bool:
    """Writes a small object unless there is one of this name; returns whether this call made it."""
    try:
        _ask(path, lambda store, bucket, key: store.create(bucket, key, data))
    except FileExistsError:
        return False
    return True


def open_object(path: str) -> BinaryIO:
    """Opens an object for reading, with seeks; each block is asked for by itself, and with patience."""
    size, _ = object_state(path)
    return io.BufferedReader(_ObjectReader(path, size), max(1, min(_BLOCK, size)))


class _ObjectReader(io.RawIOBase):
    def __init__(self, path: str, size: int):
        self._path, self._size, self._at = path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        begin, end = self._at, min(self._at + len(buffer), self._size)
        if begin >= end:
            return 0
        data = _ask(self._path, lambda store, bucket, key: store.read(bucket, key, begin, end))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readall(self) -> bytes:
        blocks = []
        while block := self.read(_BLOCK):  # io's own takes some kilobytes at a time
            blocks.append(block)
        return b"".join(blocks)
