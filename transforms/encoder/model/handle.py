"""From a TF Hub handle to a SavedModel folder on this machine, and its digest."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

from transforms.encoder.messages import model_error
from transforms.encoder.model import archive, fetch, hugging_face, kaggle
from transforms.encoder.model.cache import built, cache_dir
from transforms.storage.retries import reason_of
from transforms.storage.urls import local_path, redact, redact_in

__all__ = ["MINILM", "at_revision", "cache_dir", "digest", "pin", "redact", "resolve", "revision"]

MINILM = "minilm"
_FOLDERS = ("variables", "assets", "assets.extra")
_STORES = ("gs", "s3", "az", "hdfs")
_REMOTE = ("https", *_STORES)
_HUBS = ("hf", "kaggle")
_ARCHIVE = re.compile(r"\.(tar\.gz|tgz|tar)$")


def pin(handle: str) -> str:
    """The handle that means the same model everywhere and later, for a hub's handle; others as they are.

    Raises:
      UsageError: a hub has no such model, or cannot be asked.
    """
    if handle.startswith("hf://"):
        return hugging_face.pin(handle)
    return kaggle.pin(handle) if kaggle.is_kaggle(handle) else handle


def revision(handle: str) -> str | None:
    """The commit or the version that a pinned handle names; None where there is nothing of the kind."""
    if handle.startswith("hf://"):
        return hugging_face.parse(handle).revision
    return kaggle.version(handle) if kaggle.is_kaggle(handle) else None


def at_revision(handle: str, revision: str) -> str:
    """A hub's handle at another revision than the one it names, if it names any."""
    if handle.startswith("hf://"):
        return str(dataclasses.replace(hugging_face.parse(handle), revision=revision))
    return kaggle.at_version(handle, revision) if kaggle.is_kaggle(handle) else handle


def resolve(handle: str) -> Path:
    """Returns the local folder of the SavedModel that a handle means, downloading or unpacking as needed.

    Args:
      handle: `minilm`, a folder, a `.tar.gz` file, a URL of either (https, gs, s3, az, hdfs), or a model of
        a hub (hf://, kaggle://, a page of Kaggle's). What is downloaded is kept in `cache_dir()`, an https
        address' model in TFHUB_CACHE_DIR if that is set, a hub's in the cache of its client.

    Raises:
      UsageError: nothing is there, or what is there is no SavedModel.
    """
    if handle == MINILM:
        from transforms.encoder.export import ensure_minilm

        return ensure_minilm(cache_dir())
    if handle.startswith("hf://"):
        return hugging_face.fetch(pin(handle))
    if kaggle.is_kaggle(handle):
        return _check_saved_model(_below_top_folder(kaggle.fetch(pin(handle))), handle)
    scheme = handle.partition("://")[0] if "://" in handle else "file"
    if scheme == "http" and not fetch.is_safe_url(handle):
        raise model_error(
            handle,
            "http can be changed on its way; expected https (http is taken from this machine's own loopback "
            "address only)",
        )
    if scheme in (*_REMOTE, "http"):
        return _check_saved_model(_below_top_folder(_fetch(handle, scheme)), handle)
    if scheme != "file":
        known = ", ".join((*_REMOTE, *_HUBS))
        advice = "give a local folder, a .tar.gz, a URL or 'minilm'"
        raise model_error(handle, f"scheme {scheme!r} is not one of {known}; {advice}")
    path, wanted = Path(local_path(handle)).expanduser(), "expected a SavedModel folder"
    if not path.exists():
        raise model_error(handle, f"no such file or folder; {wanted}, a .tar.gz of one, a URL or 'minilm'")
    if path.is_dir():
        return _check_saved_model(path, handle)
    if not _ARCHIVE.search(path.name):
        raise model_error(handle, f"is a file; {wanted} or a .tar.gz of one")
    return _check_saved_model(_below_top_folder(_unpack(path)), handle)


def digest(folder: Path, preprocessor: Path | None = None) -> str:
    """SHA-256 over a SavedModel's files, the same on every machine that has the same model.

    With a preprocessor it is one over the digests of both.

    Covers saved_model.pb (or .pbtxt), variables/, assets/ and assets.extra/: each file's relative name, size
    and bytes, in order of name. fingerprint.pb is left out, since it is drawn anew at every save.
    """
    if preprocessor is not None:
        return hashlib.sha256(f"{digest(folder)} {digest(preprocessor)}".encode()).hexdigest()
    sha = hashlib.sha256()
    inner = [path for sub in _FOLDERS for path in (folder / sub).rglob("*") if path.is_file()]
    named = {file.relative_to(folder).as_posix(): file for file in [*_graphs(folder), *inner]}
    for name, file in sorted(named.items()):
        sha.update(f"{name}\0{file.stat().st_size}\0".encode())
        with open(file, "rb") as f:
            hashlib.file_digest(f, lambda: sha)  # goes on with it
    return sha.hexdigest()


def _graphs(folder: Path) -> list[Path]:
    return [path for name in ("saved_model.pb", "saved_model.pbtxt") if (path := folder / name).is_file()]


def _check_saved_model(folder: Path, handle: str) -> Path:
    if not _graphs(folder):
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
        advice = "a BERT checkpoint becomes one by `embedbeam export CHECKPOINT_DIR MODEL_DIR`"
        raise model_error(handle, f"not a SavedModel: no saved_model.pb in it (found: {found}); {advice}")
    return folder


def _fetch(handle: str, scheme: str) -> Path:
    """The local copy of a remote model, fetched once: by address from the web, by state from a store."""
    try:
        if scheme in _STORES:
            return _from_store(handle)
        return _unpacked(fetch.url_folder(handle, cache_dir()), lambda file: fetch.download(handle, file))
    # What urllib, tarfile, Beam's file systems and the stores' clients raise has no common class.
    except Exception as e:
        advice = "check the address, the network and your credentials"
        reason = redact_in(_reason(e), handle)
        raise model_error(handle, f"cannot be fetched ({reason}); {advice}") from None


def _from_store(handle: str) -> Path:
    files = fetch.find_stored(handle)
    if not files:
        raise FileNotFoundError("nothing is there")
    target = fetch.state_folder(files, cache_dir())
    if files[0].path != handle.rstrip("/"):
        return built(target, lambda folder: fetch.copy_stored(files, handle, folder))
    if not _ARCHIVE.search(handle):
        raise archive.ArchiveError("it is a file; expected a SavedModel folder or a .tar.gz of one")
    return _unpacked(target, lambda file: fetch.copy_archive(files[0], file))


def _reason(error: Exception) -> str:
    return "no tar archive" if type(error) is tarfile.ReadError else reason_of(error)


def _unpacked(target: Path, bring: Callable[[Path], None]) -> Path:
    """The folder of an archive that `bring` brings to a place on this machine."""

    def fill(folder: Path) -> None:
        packed = folder.with_name("archive")
        bring(packed)
        archive.unpack(packed, folder)

    return built(target, fill)


def _below_top_folder(folder: Path) -> Path:
    """Many archives hold one top folder; TF Hub's own hold the model at the top."""
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder


def _unpack(packed: Path) -> Path:
    """Unpacks a local archive once into the cache."""
    try:
        with open(packed, "rb") as f:
            name = hashlib.file_digest(f, "sha256").hexdigest()[:32]
        return built(cache_dir() / "models" / name, lambda folder: archive.unpack(packed, folder))
    except (archive.ArchiveError, tarfile.TarError, EOFError, OSError, zlib.error) as e:
        # A ReadError tells of every compression tried.
        advice = "fetch or pack it again"
        raise model_error(str(packed), f"cannot be unpacked ({_reason(e)}); {advice}") from e
