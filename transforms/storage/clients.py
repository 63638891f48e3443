"""Clients of the object stores: obstore for S3 and Azure, Google's own for Google Cloud Storage.

Endpoints and credentials come from Beam's options, else from the clouds' own places; docs/stores.md
says which, and why Google's store is not asked through obstore. A client tries once or twice: patience is in
retries.py.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

from transforms.storage.beam_files import BeamFiles
from transforms.storage.client import BLOCK, KIND, TIMEOUT, Client, CredentialsError, FoundFile
from transforms.storage.gcs import Google

_AWS = "https://s3.amazonaws.com"


def connect(scheme: str, bucket: str, options: Any) -> Client:
    """A client for a bucket.

    Args:
      scheme: s3, az, gs, or one that Beam knows.
      options: Beam's PipelineOptions.

    Raises:
      CredentialsError, ValueError: the options or the machine's own settings do not do.
      OSError: nobody knows the scheme.
    """
    if scheme == "gs":
        return Google(bucket, options)
    base = f"{scheme}://{bucket}/"
    if scheme not in ("s3", "az"):
        return BeamFiles(base)
    return _Obstore((_s3 if scheme == "s3" else _azure)(bucket, options), base)


class _Obstore:
    def __init__(self, store: Any, base: str):
        import obstore

        self._ask, self._store, self._base = obstore, store, base

    def _found(self, meta: Any) -> FoundFile:
        return FoundFile(self._base + meta["path"], "", meta["size"], meta["last_modified"].timestamp() // 1)

    def list(self, prefix: str, *, deep: bool) -> Iterator[FoundFile]:
        folder, _, start = prefix.rpartition("/")
        metas: Iterable[Any]
        if deep:
            # Folders are listed: what comes before the prefix is skipped, what comes after not waited for.
            pages = self._ask.list(self._store, folder or None, offset=(start and prefix[:-1]) or None)
            metas = itertools.chain.from_iterable(pages)
        else:
            metas = self._ask.list_with_delimiter(self._store, folder or None)["objects"]
        for meta in metas:
            if meta["path"].startswith(prefix):
                if meta["size"] or not deep or not self._is_marker(meta["path"]):
                    yield self._found(meta)
            elif self._base.startswith("s3:") and meta["path"] > prefix:  # Azure's order is another
                return

    def _is_marker(self, key: str) -> bool:
        """Whether an empty object is a folder's marker, whose slash the library takes away."""
        try:
            self.head(key)
        except FileNotFoundError:
            return True
        return False

    def head(self, key: str) -> FoundFile:
        return self._found(self._ask.head(self._store, key))

    def get(self, key: str, begin: int = 0, end: int | None = None) -> bytes:
        part: Any = {} if end is None else {"range": (begin, end)}
        return self._ask.get(self._store, key, options=part).bytes().to_bytes()

    def put(self, key: str, file: BinaryIO, size: int, *, new: bool) -> None:
        mode: Any = "create" if new else "overwrite"
        self._ask.put(self._store, key, file, mode=mode, chunk_size=BLOCK, max_concurrency=1)

    def copy(self, key: str, target: str) -> None:
        self._ask.copy(self._store, key, target)

    def delete(self, key: str) -> None:
        self._ask.delete(self._store, key)

    def version(self, key: str) -> str:
        return str(self._ask.head(self._store, key)["e_tag"])

    def swap(self, key: str, data: bytes, version: str) -> None:
        self._ask.put(self._store, key, data, mode={"e_tag": version})


def _made(kind: Any, bucket: str, config: dict[str, Any], verify: str = "true", **more: Any) -> Any:
    """A store of the library, of what is known of it; `verify` is a file of certificates, or 'false'."""
    client: dict[str, Any] = {
        "allow_http": str(config.get("endpoint")).startswith("http:"),  # where an endpoint says so
        "connect_timeout": timedelta(seconds=TIMEOUT[0]),
        "read_timeout": timedelta(seconds=TIMEOUT[1]),
        "timeout": timedelta(seconds=4 * TIMEOUT[1]),
        "default_content_type": KIND,
    }
    if verify.lower() in ("false", "0", "no"):
        client["allow_invalid_certificates"] = True
    elif verify.lower() not in ("true", "1", "yes"):
        client["root_certificate"] = Path(verify).read_bytes()
    # A block of a large file again, rather than all of it.
    retry = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}
    known = {name: value for name, value in config.items() if value}
    return kind(bucket, config=known, client_options=client, retry_config=retry, **more)


def _s3(bucket: str, options: Any) -> Any:
    from apache_beam.options.pipeline_options import S3Options
    from obstore.store import S3Store

    given = options.view_as(S3Options)
    credentials, region = _s3_credentials(given)
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    endpoint = given.s3_endpoint_url or next(filter(None, map(os.environ.get, names)), None)
    region = given.s3_region_name or (None if endpoint else _region_of(bucket)) or region
    if given.s3_disable_ssl and not endpoint:
        endpoint = f"http://s3.{region or 'us-east-1'}.amazonaws.com"
    # Not every server that speaks S3 knows how to delete many at once.
    config = {"region": region, "endpoint": endpoint, "disable_bulk_delete": True}
    verify = os.environ.get("AWS_CA_BUNDLE", "true") if given.s3_verify is None else str(given.s3_verify)
    return _made(S3Store, bucket, config, verify, credential_provider=credentials)


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
        with urllib.request.urlopen(request, timeout=TIMEOUT[0]) as answer:
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
    endpoint = said.get("BlobEndpoint") or given.blob_service_endpoint or ""
    if account and not endpoint:
        suffix = said.get("EndpointSuffix", "core.windows.net")
        endpoint = f"{said.get('DefaultEndpointsProtocol', 'https')}://{account}.blob.{suffix}"
    config = {
        "account_name": account,
        "account_key": said.get("AccountKey"),
        "sas_key": said.get("SharedAccessSignature"),
        "endpoint": endpoint.rstrip("/"),
        "client_id": given.azure_managed_identity_client_id,
    }
    return _made(AzureStore, container, config)
