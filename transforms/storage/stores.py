"""A look at an object store before a job starts: its clients wait minutes, silently, for what is missing."""

from __future__ import annotations

import importlib.util
import os
import socket
from typing import Any
from urllib.parse import urlsplit

from transforms.errors import UsageError
from transforms.storage.buckets import s3_client, wants_credentials
from transforms.storage.files import is_local
from transforms.storage.retries import reason_of

_SECONDS = 10.0
_EXTRAS = {"s3": ("boto3", "aws"), "gs": ("google.cloud.storage", "gcp")}


def check_store(flag: str, path: str, beam_options: Any) -> None:
    """Asks the store of a path: can it be reached, do the credentials do, is the bucket there?

    Args:
      flag: the option that names the path.
      beam_options: Beam's PipelineOptions, which have endpoints and credentials.

    Raises:
      UsageError: with what is missing and how to give it.
    """
    if is_local(path):
        return
    scheme, bucket = urlsplit(path)[:2]
    if scheme not in _EXTRAS:
        return
    module, extra = _EXTRAS[scheme]
    if not _installed(module):
        raise UsageError(f"{flag} {path}: {scheme}:// needs more packages: pip install 'embedbeam[{extra}]'")
    if not bucket:
        raise UsageError(f"{flag} {path}: no bucket; expected {scheme}://BUCKET/PATH")
    where, problem = (_ask_s3 if scheme == "s3" else _ask_gcs)(bucket, beam_options)
    if problem:
        raise UsageError(f"{flag} {path}: {problem} ({where})")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


def _ask_s3(bucket: str, beam_options: Any) -> tuple[str, str | None]:
    import botocore.exceptions
    from apache_beam.options.pipeline_options import S3Options

    given = beam_options.view_as(S3Options)
    where = f"--s3_endpoint_url {given.s3_endpoint_url}" if given.s3_endpoint_url else "AWS"
    missing = "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or --s3_access_key_id"
    if problem := _unreachable(given.s3_endpoint_url):
        return where, problem
    try:
        client = s3_client(beam_options)
        client.list_objects_v2(Bucket=bucket, MaxKeys=1)
    except (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError):
        return where, f"no credentials found; {missing}"
    except botocore.exceptions.ClientError as e:
        return where, _problem(e.response["ResponseMetadata"].get("HTTPStatusCode"), bucket, missing)
    except (botocore.exceptions.BotoCoreError, ValueError) as e:
        return where, f"cannot be asked: {reason_of(e)}"
    return where, None


def _ask_gcs(bucket: str, beam_options: Any) -> tuple[str, str | None]:
    import google.api_core.exceptions
    import google.auth.exceptions
    import requests
    from apache_beam.io.gcp.gcsio import create_storage_client
    from google.api_core.retry import Retry

    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    where = f"STORAGE_EMULATOR_HOST {emulator}" if emulator else "Google Cloud Storage"
    missing = "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"
    if problem := _unreachable(emulator):
        return where, problem
    retry = Retry(initial=0.5, maximum=2, timeout=_SECONDS)  # a busy server gets a few chances
    try:
        client = create_storage_client(
            beam_options, use_credentials=wants_credentials(beam_options) and _google_knows_us()
        )
        next(iter(client.list_blobs(bucket, max_results=1, retry=retry, timeout=_SECONDS)), None)
    except google.api_core.exceptions.GoogleAPICallError as e:
        return where, _problem(e.code, bucket, missing)
    except google.auth.exceptions.GoogleAuthError as e:
        return where, f"no credentials found ({reason_of(e)}); {missing}"
    except (google.api_core.exceptions.RetryError, requests.RequestException) as e:
        return where, f"cannot be asked: {reason_of(e)}"
    return where, None


def _google_knows_us() -> bool:
    """Asked once, since Beam tries for 20 seconds; a public bucket needs nobody's credentials."""
    import google.auth
    import google.auth.exceptions

    try:
        google.auth.default()
    except google.auth.exceptions.DefaultCredentialsError:
        return False
    return True


def _problem(status: int | None, bucket: str, missing: str) -> str | None:
    if status == 404:
        return f"there is no bucket {bucket}; make it, or check its name"
    if status in (401, 403):
        return f"the credentials are missing, wrong, or not allowed to list the bucket; {missing}"
    # A busy server is no mistake of the user's: the job itself is patient.
    return None if status is not None and status >= 500 else f"the store answers {status}"


def _unreachable(endpoint: str | None) -> str | None:
    """Tries an address that was given by hand; None if it answers, or if none was given."""
    if not endpoint:
        return None
    url = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        socket.create_connection((url.hostname or "", port), timeout=_SECONDS).close()
    except (OSError, ValueError) as e:
        return f"no server answers there ({getattr(e, 'strerror', None) or e}); check the host and the port"
    return None
