"""A look at an object store before a job starts: patience comes later, a mistake is told at once."""

from __future__ import annotations

import importlib.util
import os
import socket
from typing import Any
from urllib.parse import urlsplit

from transforms.errors import UsageError
from transforms.storage.beam_files import WILDCARD
from transforms.storage.client import CredentialsError
from transforms.storage.clients import connect
from transforms.storage.objects import is_object
from transforms.storage.retries import reason_of, retried, status_of
from transforms.storage.urls import redact_all

_SECONDS = 10.0
_MISSING = {
    "s3": "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or --s3_access_key_id",
    "az": "give AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or --azure_connection_string",
    "gs": "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
}
_BUCKET = {"s3": "bucket", "gs": "bucket", "az": "container"}


def check_store(flag: str, path: str, beam_options: Any) -> None:
    """Asks the store of a path: can it be reached, do the credentials do, is the bucket there?

    Args:
      flag: the option that names the path.
      beam_options: Beam's PipelineOptions, which have endpoints and credentials.

    Raises:
      UsageError: with what is missing and how to give it.
    """
    if not is_object(path):
        return
    scheme, bucket = urlsplit(path)[:2]
    if scheme == "gs" and not _installed("google.cloud.storage"):
        raise UsageError(f"{flag} {path}: gs:// needs more packages: pip install 'embedbeam[gcp]'")
    if not bucket:
        raise UsageError(f"{flag} {path}: no bucket; expected {scheme}://BUCKET/PATH")
    where, endpoint = _place(scheme, beam_options)
    problem = _unreachable(endpoint) or _problem(path, beam_options)
    if problem:
        raise UsageError(f"{flag} {path}: {redact_all(problem)} ({where})")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


def _place(scheme: str, beam_options: Any) -> tuple[str, str | None]:
    """Which store is asked, in words, and the address that was given for it by hand."""
    from apache_beam.options.pipeline_options import AzureOptions, S3Options

    name, option, endpoint = {
        "s3": ("AWS", "--s3_endpoint_url", beam_options.view_as(S3Options).s3_endpoint_url),
        "az": ("Azure", "--blob_service_endpoint", beam_options.view_as(AzureOptions).blob_service_endpoint),
        "gs": ("Google Cloud Storage", "STORAGE_EMULATOR_HOST", os.environ.get("STORAGE_EMULATOR_HOST")),
    }[scheme]
    return (f"{option} {endpoint}" if endpoint else name), endpoint


def _problem(path: str, beam_options: Any) -> str | None:
    scheme, bucket, key = (*path.replace("://", "/", 1).split("/", 2), "")[:3]
    wildcard = WILDCARD.search(key)
    # Of the path's own folder: credentials may be for that alone, and other names are none of ours.
    folder = key[: wildcard.start()].rpartition("/")[0] if wildcard else key.rstrip("/")
    prefix = folder and f"{folder}/"
    try:
        client = connect(scheme, bucket, beam_options)
        retried(lambda: next(iter(client.list(prefix, deep=True)), None), patience=_SECONDS)
    except CredentialsError as e:
        return f"{e}; {_MISSING[scheme]}"
    except Exception as e:  # each library's own
        status = status_of(e)
        if type(e).__name__ == "InvalidPathError":  # obstore's: it answered, and whoever lists tells the name
            return None
        if status == 404:
            return f"there is no {_BUCKET[scheme]} {bucket}; make it, or check its name"
        if status in (401, 403):
            what = f"the credentials are missing, wrong, or not allowed to list the {_BUCKET[scheme]}"
            return f"{what}; {_MISSING[scheme]}"
        # A busy server is no mistake of the user's: the job itself is patient.
        return None if status is not None and status >= 500 else f"cannot be asked: {reason_of(e)}"
    return None


def _unreachable(endpoint: str | None) -> str | None:
    """Tries an address that was given by hand; None if it answers, or if none was given."""
    if not endpoint:
        return None
    try:
        url = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
        port = url.port or (443 if url.scheme == "https" else 80)
        socket.create_connection((url.hostname or "", port), timeout=_SECONDS).close()
    except (OSError, ValueError) as e:
        return f"no server answers there ({getattr(e, 'strerror', None) or e}); check the host and the port"
    return None
