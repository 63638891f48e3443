"""From a TF Hub handle to a SavedModel folder on this machine, and its digest."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from transforms.encoder.model import archive, fetch
from transforms.errors import UsageError
from transforms.storage.retries import reason_of
from transforms.storage.urls import local_path, redact, redact_in

__all__ = ["MINILM", "cache_dir", "digest", "redact", "resolve"]

MINILM = "minilm"
_STORES = ("gs", "s3", "az", "hdfs")
_REMOTE = ("https", *_STORES)
_ARCHIVE = re.compile(r"\.(tar\.gz|tgz|tar)$")
_CHUNK = 1 << 20


def cache_dir() -> Path:
    """Where embedbeam keeps what it builds or unpacks: EMBEDBEAM_CACHE, or ~/.cache/embedbeam."""
    return Path(os.environ.get("EMBEDBEAM_CACHE") or "~/.cache/embedbeam").expanduser()


def resolve(handle: str) -> Path:
    """Returns the local folder of the SavedModel that a handle means, downloading or unpacking as needed.

    Args:
      handle: `minilm`, a folder, a `.tar.gz` file, or a URL of either (https, gs, s3, az, hdfs); what is
        downloaded is kept in `cache_dir()`, an https address' model in TFHUB_CACHE_DIR if that is set.

    Raises:
      UsageError: nothing is there, or what is there is no SavedModel.
    """
    if handle == MINILM:
        from transforms.encoder.export import ensure_minilm

        return ensure_minilm(cache_dir())
    scheme = handle.split("://", 1)[0] if "://" in handle else ""
    if scheme == "http" and not fetch.is_safe_url(handle):
        raise UsageError(
            f"model {redact(handle)}: http can be changed on its way; expected https (http is taken from "
            "this machine's own loopback address only)",
            argument="model",
        )
    if scheme and scheme not in (*_REMOTE, "http", "file"):
        raise UsageError(
            f"model {redact(handle)}: scheme {scheme!r} is not one of {', '.join(_REMOTE)}; "
            "give a local folder, a .tar.gz, a URL or 'minilm'",
            argument="model",
        )
    if scheme in (*_REMOTE, "http"):
        return _check_saved_model(_below_top_folder(_fetch(handle, scheme)), handle)
    path = Path(local_path(handle)).expanduser()
    if not path.exists():
        raise UsageError(
            f"model {handle}: no such file or folder; expected a SavedModel folder, a .tar.gz of one, "
            "a URL or 'minilm'",
            argument="model",
        )
    if path.is_dir():
        return _check_saved_model(path, handle)
    if _ARCHIVE.search(path.name):
        return _check_saved_model(_below_top_folder(_unpack(path)), handle)
    raise UsageError(
        f"model {handle}: is a file; expected a SavedModel folder or a .tar.gz of one", argument="model"
    )


def digest(folder: Path) -> str:
    """SHA-256 over a SavedModel's files, the same on every machine that has the same model.

    Covers saved_model.pb (or .pbtxt), variables/ and assets/: each file's relative name, size and bytes, in
    order of name. fingerprint.pb is left out, since it is drawn anew at every save.
    """
    sha = hashlib.sha256()
    for file in _model_files(folder):
        sha.update(f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
        with open(file, "rb") as f:
            while block := f.read(_CHUNK):
                sha.update(block)
    return sha.hexdigest()


def _model_files(folder: Path) -> list[Path]:
    files = [folder / name for name in ("saved_model.pb", "saved_model.pbtxt") if (folder / name).is_file()]
    for sub in ("variables", "assets"):
        files += [path for path in (folder / sub).rglob("*") if path.is_file()]
    return sorted(files, key=lambda file: file.relative_to(folder).as_posix())


def _check_saved_model(folder: Path, handle: str) -> Path:
    if not any((folder / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
        raise UsageError(
            f"model {redact(handle)}: not a SavedModel: no saved_model.pb in it (found: {found}); "
            "a BERT checkpoint becomes one by `embedbeam export CHECKPOINT_DIR MODEL_DIR`",
            argument="model",
        )
    return folder


def _fetch(handle: str, scheme: str) -> Path:
    """The local copy of a remote model, fetched once: by address from the web, by state from a store."""
    try:
        if scheme in _STORES:
            return _from_store(handle)
        target = fetch.url_folder(handle, cache_dir())
        if not target.exists():
            with fetch.scratch(cache_dir()) as folder:
                packed = Path(folder, "archive")
                fetch.download(handle, packed)
                _unpack_to(packed, target)
        return target
    # What urllib, tarfile, Beam's file systems and the stores' clients raise has no common class.
    except Exception as e:
        reason = redact_in(_reason(e), handle)
        raise UsageError(
            f"model {redact(handle)}: cannot be fetched ({reason}); check the address, the network and "
            "your credentials",
            argument="model",
        ) from None


def _from_store(handle: str) -> Path:
    files = fetch.find_stored(handle)
    if not files:
        raise FileNotFoundError("nothing is there")
    target = fetch.state_folder(files, cache_dir())
    if target.exists():
        return target
    if files[0].path != handle.rstrip("/"):
        with _building(target) as temporary:
            fetch.copy_stored(files, handle, temporary)
        return target
    if not _ARCHIVE.search(handle):
        raise archive.ArchiveError("it is a file; expected a SavedModel folder or a .tar.gz of one")
    with fetch.scratch(cache_dir()) as folder:
        fetch.copy_stored(files, handle.rpartition("/")[0], Path(folder))
        _unpack_to(next(Path(folder).iterdir()), target)
    return target


def _reason(error: Exception) -> str:
    return "no tar archive" if type(error) is tarfile.ReadError else reason_of(error)


@contextlib.contextmanager
def _building(target: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `target` once it is whole; another process may have been first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".building-"))
    try:
        yield temporary
        with contextlib.suppress(OSError):
            os.rename(temporary, target)
        if not target.exists():
            raise OSError(f"cannot be moved to {target}")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _below_top_folder(folder: Path) -> Path:
    """Many archives hold one top folder; TF Hub's own hold the model at the top."""
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder


def _unpack(packed: Path) -> Path:
    """Unpacks a local archive once into the cache."""
    try:
        target = cache_dir() / "models" / _sha256(packed)[:32]
        if not target.exists():
            _unpack_to(packed, target)
        return target
    except (archive.ArchiveError, tarfile.TarError, EOFError, OSError, zlib.error) as e:
        # A ReadError tells of every compression tried.
        raise UsageError(
            f"model {packed}: cannot be unpacked ({_reason(e)}); fetch or pack it again", argument="model"
        ) from e


def _unpack_to(packed: Path, target: Path) -> None:
    with _building(target) as temporary:
        archive.unpack(packed, temporary)


def _sha256(file: Path) -> str:
    with open(file, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
