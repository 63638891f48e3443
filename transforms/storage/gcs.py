"""Google Cloud Storage through Google's own client; docs/stores.md says why not through obstore."""

from __future__ import annotations

import os
from typing import Any, BinaryIO

from transforms.storage.client import BLOCK, CONNECT_SECONDS, KIND, READ_SECONDS, Listed


class Google:
    def __init__(self, bucket: str, options: Any):
        from apache_beam.io.gcp.gcsio import create_storage_client
        from google.cloud.storage.retry import DEFAULT_RETRY

        known = _wants_credentials(options) and _google_knows_us()
        self._client = create_storage_client(options, use_credentials=known)
        self._bucket = self._client.bucket(bucket)
        self._once: dict[str, Any] = {"retry": None, "timeout": (CONNECT_SECONDS, READ_SECONDS)}
        self._block_again = DEFAULT_RETRY.with_timeout(10.0)

    def list(self, prefix: str, **more: Any) -> Listed:
        found = self._client.list_blobs(self._bucket, prefix=prefix, **more, **self._once)
        return [(blob.name, blob.size, blob.updated.timestamp()) for blob in found]

    def list_folder(self, folder: str) -> Listed:
        return self.list(folder, delimiter="/")

    def head(self, key: str) -> tuple[int, float]:
        blob = self._bucket.blob(key)
        blob.reload(**self._once)
        return blob.size, blob.updated.timestamp()

    def get(self, key: str) -> bytes:
        # Raw: a file that the store would unpack on its way has another size than it says.
        return self._bucket.blob(key).download_as_bytes(raw_download=True, **self._once)

    def get_range(self, key: str, begin: int, end: int) -> bytes:
        blob = self._bucket.blob(key)
        return blob.download_as_bytes(start=begin, end=end - 1, raw_download=True, **self._once)

    def put(self, key: str, file: BinaryIO, size: int) -> None:
        blob = self._bucket.blob(key, chunk_size=BLOCK)
        how = {**self._once, "retry": self._block_again} if size > BLOCK else self._once
        blob.upload_from_file(file, size=size, content_type=KIND, **how)

    def create(self, key: str, data: bytes) -> None:
        blob = self._bucket.blob(key)
        blob.upload_from_string(data, content_type=KIND, if_generation_match=0, **self._once)

    def delete(self, key: str) -> None:
        self._bucket.blob(key).delete(**self._once)

    def probe(self) -> None:
        next(iter(self._client.list_blobs(self._bucket, max_results=1, **self._once)), None)


def _wants_credentials(options: Any) -> bool:
    """Whether Google's store asks who comes; Beam itself looks for credentials even with --no_auth."""
    from apache_beam.options.pipeline_options import GoogleCloudOptions

    return not (options.view_as(GoogleCloudOptions).no_auth or os.environ.get("STORAGE_EMULATOR_HOST"))


def _google_knows_us() -> bool:
    """Asked once, since Beam tries for 20 seconds; a public bucket needs nobody's credentials."""
    import google.auth
    import google.auth.exceptions

    try:
        google.auth.default()
    except google.auth.exceptions.DefaultCredentialsError:
        return False
    return True
