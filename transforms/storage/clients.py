"""Clients of the object stores: obstore for S3 and Azure, Google's own for Google Cloud Storage.

Endpoints and credentials come from Beam's options, else from the clouds' own places; docs/stores.md
says which, and why Google's store is not asked through obstore. A client tries once or twice: patience is in
retries.py.
"""

from __future__ import annotations

import importlib.util
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from typing import Any, BinaryIO

from transforms.storage.client import (
    BLOCK,
    CONNECT_SECONDS,
    KIND,
    READ_SECONDS,
    Client,
    CredentialsError,
    Listed,
)
from transforms.storage.gcs import Google

_AWS = "https://s3.amazonaws.com"


def connect(scheme: str, bucket: str, options: Any) -> Client:
    """A client for a bucket.

    Args:
      scheme: s3, az or gs.
      options: Beam's PipelineOptions.

    Raises:
      CredentialsError, ValueError: the options or the machine's own settings do not do.
    """
    if scheme == "gs":
        return Google(bucket, options)
    return _Obstore((_s3 if scheme == "s3" else _azure)(bucket, options), ordered=scheme == "s3")


class _Obstore:
    def __init__(self, store: Any, *, ordered: bool):
        import obstore

        self._ask, self._store, self._ordered = obstore, store, ordered

    def list(self, prefix: str) -> Listed:
        folder = prefix.rpartition("/")[0]
        # The library lists folders: what comes before the prefix is skipped, what comes after not waited for.
        after = prefix[:-1] if len(prefix) > len(folder) + 1 else None
        found = []
        for page in self._ask.list(self._store, folder or None, offset=after):
            for meta in page:
                key, size, time = _described(meta)
                if key.startswith(prefix):
                    found.append((f"{key}/" if size == 0 and self._is_marker(key) else key, size, time))
                elif self._ordered and key > prefix:
                    return found
        return found

    def _is_marker(self, key: str) -> bool:
        """Whether an empty object is a folder's marker, whose slash the library takes away."""
        try:
            self._ask.head(self._store, key)
        except FileNotFoundError:
            return True
        return False

    def list_folder(self, folder: str) -> Listed:
        listed = self._ask.list_with_delimiter(self._store, folder.rstrip("/") or None)
        return [_described(meta) for meta in listed["objects"]]

    def head(self, key: str) -> tuple[int, float]:
        _, size, time = _described(self._ask.head(self._store, key))
        return size, time

    def get(self, key: str) -> bytes:
        return self._ask.get(self._store, key).bytes().to_bytes()

    def get_range(self, key: str, begin: int, end: int) -> bytes:
        return self._ask.get_range(self._store, key, start=begin, end=end).to_bytes()

    def put(self, key: str, file: BinaryIO, size: int) -> None:
        data = file.read() if size <= BLOCK else file
        self._ask.put(self._store, key, data, chunk_size=BLOCK, max_concurrency=1)

    def create(self, key: str, data: bytes) -> None:
        self._ask.put(self._store, key, data, mode="create", use_multipart=False)

    def delete(self, key: str) -> None:
        self._ask.delete(self._store, key)

    def probe(self) -> None:
        next(iter(self._ask.list(self._store)), None)


def _described(meta: Any) -> tuple[str, int, float]:
    return meta["path"], meta["size"], meta["last_modified"].timestamp()


def _http(*, plain: bool, verify: str | None = None) -> dict[str, Any]:
    """How both libraries' stores are spoken to; `verify` is a file of certificates, or 'false'."""
    client: dict[str, Any] = {
        "allow_http": plain,
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=READ_SECONDS),
        "timeout": timedelta(seconds=4 * READ_SECONDS),
        "default_content_type": KIND,
    }
    if verify is not None and verify.lower() in ("false", "0", "no"):
        client["allow_invalid_certificates"] = True
    elif verify is not None and verify.lower() not in ("true", "1", "yes"):
        with open(verify, "rb") as f:
            client["root_certificate"] = f.read()
    # A block of a large file again, rather than all of it.
    return {
        "client_options": client,
        "retry_config": {"max_retries": 2, "retry_timeout": timedelta(seconds=20)},
    }


def _s3(bucket: str, options: Any) -> Any:
    from apache_beam.options.pipeline_options import S3Options
    from obstore.store import S3Store

    given = options.view_as(S3Options)
    credentials, region = _s3_credentials(given)
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    endpoint = given.s3_endpoint_url or next(filter(None, map(os.environ.get, names)), None)
    config: Any = {"disable_bulk_delete": True}  # not every server that speaks S3 knows it
    config["region"] = given.s3_region_name or (None if endpoint else _region_of(bucket)) or region
    if given.s3_disable_ssl and not endpoint:
        endpoint = f"http://s3.{config['region'] or 'us-east-1'}.amazonaws.com"
    config["endpoint"] = endpoint
    verify = given.s3_verify if given.s3_verify is not None else os.environ.get("AWS_CA_BUNDLE")
    http = _http(plain=(endpoint or "").startswith("http:"), verify=None if verify is None else str(verify))
    config = {name: value for name, value in config.items() if value is not None}
    return S3Store(bucket, config=config, credential_provider=credentials, **http)


def _s3_credentials(given: Any) -> tuple[Callable[[], Any] | None, str | None]:
    """Who asks for credentials, and the region beside them: the options, else boto3, which knows profiles and
    SSO; without it obstore looks itself (environment, web identity, the machine's role)."""
    key, secret = given.s3_access_key_id, given.s3_secret_access_key
    if key and secret:
        static = {"access_key_id": key, "secret_access_key": secret, "token": given.s3_session_token}
        return lambda: {**static, "expires_at": None}, None
    if key or secret:
        raise CredentialsError("--s3_access_key_id and --s3_secret_access_key belong together")
    if importlib.util.find_spec("boto3") is None:
        return None, None
    import boto3
    from obstore.auth.boto3 import Boto3CredentialProvider

    session = boto3.Session()
    try:
        return Boto3CredentialProvider(session), session.region_name
    except ValueError:
        raise CredentialsError("no credentials found") from None


def _region_of(bucket: str) -> str | None:
    """The region that a bucket lies in, as AWS tells everybody; None where AWS cannot be asked."""
    request = urllib.request.Request(f"{_AWS}/{bucket}", method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=CONNECT_SECONDS) as answer:
            return answer.headers.get("x-amz-bucket-region")
    except urllib.error.HTTPError as e:  # 403 and 301 tell it too
        return e.headers.get("x-amz-bucket-region")
    except OSError:
        return None


def _azure(container: str, options: Any) -> Any:
    from apache_beam.options.pipeline_options import AzureOptions
    from obstore.store import AzureStore

    given = options.view_as(AzureOptions)
    text = given.azure_connection_string or os.environ.get("AZURE_STORAGE_CONNECTION_STRING") or ""
    said = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    account = said.get("AccountName")
    endpoint = said.get("BlobEndpoint") or given.blob_service_endpoint
    if account and not endpoint:
        suffix = said.get("EndpointSuffix", "core.windows.net")
        endpoint = f"{said.get('DefaultEndpointsProtocol', 'https')}://{account}.blob.{suffix}"
    config: Any = {
        "account_name": account,
        "account_key": said.get("AccountKey"),
        "sas_key": said.get("SharedAccessSignature"),
        "endpoint": endpoint and endpoint.rstrip("/"),
        "client_id": given.azure_managed_identity_client_id,
    }
    config = {name: value for name, value in config.items() if value}
    return AzureStore(container, config=config, **_http(plain=(endpoint or "").startswith("http:")))
