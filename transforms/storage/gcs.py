"""Google Cloud Storage through Google's own client; docs/stores.md says why not through obstore."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, BinaryIO

from transforms.storage.client import BLOCK, KIND, TIMEOUT, FoundFile


class Google:
    def __init__(self, bucket: str, options: Any):
        from apache_beam.io.gcp.gcsio import create_storage_client
        from google.cloud.storage.retry import DEFAULT_RETRY

        self._client = create_storage_client(options, use_credentials=_knows_us(options))
        self._bucket = self._client.bucket(bucket)
        self._once: dict[str, Any] = {"retry": None, "timeout": TIMEOUT}
        self._block_again = DEFAULT_RETRY.with_timeout(10.0)

    def _found(self, blob: Any) -> FoundFile:
        time = blob.updated.timestamp() // 1
        return FoundFile(f"gs://{self._bucket.name}/{blob.name}", "", blob.size, time)

    def list(self, prefix: str, *, deep: bool) -> Iterable[FoundFile]:
        how = {**self._once, "delimiter": None if deep else "/"}
        return map(self._found, self._bucket.list_blobs(prefix=prefix, **how))

    def head(self, key: str) -> FoundFile:
        blob = self._bucket.blob(key)
        blob.reload(**self._once)
        return self._found(blob)

    def get(self, key: str, begin: int = 0, end: int | None = None) -> bytes:
        # Raw: a file that the store would unpack on its way has another size than it says.
        part = {"start": begin or None, "end": None if end is None else end - 1, "raw_download": True}
        return self._bucket.blob(key).download_as_bytes(**part, **self._once)

    def put(self, key: str, file: BinaryIO, size: int, *, new: bool) -> None:
        how = {**self._once, "if_generation_match": 0 if new else None}
        if size > BLOCK:
            how["retry"] = self._block_again
        self._bucket.blob(key, chunk_size=BLOCK).upload_from_file(file, size=size, content_type=KIND, **how)

    def copy(self, key: str, target: str) -> None:
        source, token = self._bucket.blob(key), None
        while True:  # a large object is copied in several calls
            token, *_ = self._bucket.blob(target).rewrite(source, token=token, **self._once)
            if token is None:
                return

    def delete(self, key: str) -> None:
        self._bucket.blob(key).delete(**self._once)

    def version(self, key: str) -> str:
        blob = self._bucket.blob(key)
        blob.reload(**self._once)
        return str(blob.generation)

    def swap(self, key: str, data: bytes, version: str) -> None:
        how = {**self._once, "if_generation_match": int(version)}
        self._bucket.blob(key).upload_from_string(data, content_type=KIND, **how)


def _knows_us(options: Any) -> bool:
    """Whether there are credentials to show; a public bucket needs none.

    Asked here, and once: Beam looks for them even with --no_auth, and tries for 20 seconds.
    """
    import google.auth
    from apache_beam.options.pipeline_options import GoogleCloudOptions
    from google.auth.exceptions import DefaultCredentialsError

    if options.view_as(GoogleCloudOptions).no_auth or os.environ.get("STORAGE_EMULATOR_HOST"):
        return False
    try:
        google.auth.default()
    except DefaultCredentialsError:
        return False
    return True
