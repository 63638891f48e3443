"""Bringing a model to this machine: from a web server, or from a store.

`tensorflow_hub.resolve` is not asked, though its cache is shared: it imports TensorFlow, seconds for a job
that is finished and need only say so; it waits for ever on a server that falls silent; it takes an archive of
any size, one that breaks off, and a redirect to plain http; and it knows no user and password in a URL.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import shutil
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from transforms.encoder.model.archive import MAX_BYTES, MAX_MEMBERS, ArchiveError
from transforms.storage.files import FoundFile, copy_here
from transforms.storage.objects import find_object, list_objects
from transforms.storage.retries import retried

_CHUNK = 1 << 20
_SECONDS = 60.0  # without a byte


def is_safe_url(url: str) -> bool:
    """Whether a model may be fetched from there: https, or http on this very machine."""
    try:
        parts = urlsplit(url)
        loopback = parts.hostname in ("localhost", "127.0.0.1", "::1")
    except ValueError:  # a bracket that is not closed
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and loopback)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, never to a place where others could change what comes."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not is_safe_url(newurl):
            raise ArchiveError(f"it redirects to {urlsplit(newurl).scheme}://, expected https")
        followed = super().redirect_request(req, fp, code, msg, headers, newurl)
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        # The password is for the server that it was given for.
        if followed and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            followed.unredirected_hdrs.update(req.unredirected_hdrs)
        return followed


def download(url: str, target: Path) -> None:
    """Downloads an archive; a user and a password in the URL are sent as basic authentication.

    Raises:
      ArchiveError: too large, or a redirect that leaves https.
      ValueError, OSError, http.client.HTTPException: it cannot be had.
    """
    _ = urlsplit(url).port  # raises ValueError: an address that is none need not be tried for a minute
    retried(lambda: _download(url, target))


def _download(url: str, target: Path) -> None:
    opener = urllib.request.build_opener(_SafeRedirects)
    with opener.open(_request(url), timeout=_SECONDS) as response, open(target, "wb") as f:
        expected = response.headers.get("Content-Length")
        _check_size(int(expected or 0), target.parent)
        got = 0
        while block := response.read(_CHUNK):
            got += len(block)
            if got > MAX_BYTES:
                raise ArchiveError(f"more than {MAX_BYTES:,} bytes")
            f.write(block)
        if expected is not None and got != int(expected):
            raise http.client.IncompleteRead(b"", int(expected) - got)


def _request(url: str) -> urllib.request.Request:
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(_with_format(parts._replace(netloc=host, fragment="")))
    if at:
        name, _, password = user.partition(":")
        token = base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


def _with_format(url: SplitResult) -> str:
    """Asks a model hub for the archive, as tensorflow-hub does; what names an archive is left alone."""
    if url.path.endswith((".tar.gz", ".tgz", ".tar")) or "tf-hub-format" in url.query:
        return url.geturl()
    query = f"{url.query}&" if url.query else ""
    return url._replace(query=f"{query}tf-hub-format=compressed").geturl()


def _check_size(size: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if size > min(MAX_BYTES, free):
        raise ArchiveError(
            f"{size:,} bytes; expected at most {MAX_BYTES:,}, and {free:,} are free on the disk"
        )


def url_folder(url: str, cache: Path) -> Path:
    """Where a URL's model is kept: where tensorflow-hub looks for it if TFHUB_CACHE_DIR is set."""
    root = os.environ.get("TFHUB_CACHE_DIR")
    return (Path(root) if root else cache / "models") / hashlib.sha1(url.encode()).hexdigest()


def find_stored(handle: str) -> list[FoundFile]:
    """The files of a model in a store: of a folder, or the one archive."""
    path = handle.rstrip("/")
    return find_object(path) or sorted(list_objects(path + "/"))


def state_folder(files: list[FoundFile], cache: Path) -> Path:
    """Where a stored model is kept: another place for every state of its files."""
    states = [(file.path, file.size, file.mtime) for file in files]
    return cache / "models" / hashlib.sha256(repr(states).encode()).hexdigest()[:32]


def copy_stored(files: list[FoundFile], base: str, folder: Path) -> None:
    """Copies a model's files below `base` into a folder.

    Raises:
      ArchiveError: too many or too large, or a name that leads out of the folder.
    """
    if len(files) > MAX_MEMBERS:
        raise ArchiveError(f"more than {MAX_MEMBERS:,} files")
    _check_size(sum(file.size for file in files), folder)
    for file in files:
        name = file.path.removeprefix(base.rstrip("/") + "/")
        local = folder / name
        if ".." in Path(name).parts or not local.is_relative_to(folder):
            raise ArchiveError(f"{name!r} leads out of the folder")
        local.parent.mkdir(parents=True, exist_ok=True)
        copy_here(file.path, str(local))


def copy_archive(file: FoundFile, target: Path) -> None:
    """Copies a model's one file.

    Raises:
      ArchiveError: it is too large.
    """
    _check_size(file.size, target.parent)
    copy_here(file.path, str(target))
