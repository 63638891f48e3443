"""From a TF Hub handle to a SavedModel folder on this machine, and its digest."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from transforms.errors import UsageError

MINILM = "minilm"
_REMOTE = ("http", "https", "gs", "s3", "hdfs")
_CHUNK = 1 << 20


def cache_dir() -> Path:
    """Where embedbeam keeps what it builds or unpacks: EMBEDBEAM_CACHE, or ~/.cache/embedbeam."""
    return Path(os.environ.get("EMBEDBEAM_CACHE") or "~/.cache/embedbeam").expanduser()


def redact(text: str) -> str:
    """Takes passwords, and the query strings that carry tokens, out of a URL; other text is unchanged.

    >>> redact("https://me:secret@example.com/model.tar.gz?sig=abc")
    'https://***@example.com/model.tar.gz?***'
    >>> redact("gs://bucket/model")
    'gs://bucket/model'
    """
    if "://" not in text:
        return text
    url = urlsplit(text)
    host = url.netloc.rpartition("@")[2]
    netloc = f"***@{host}" if "@" in url.netloc else host
    # In a bucket's glob a question mark stands for a character; a query that hides something has a "=".
    secret = url.query and (url.scheme in ("http", "https") or "=" in url.query)
    return urlunsplit((url.scheme, netloc, url.path, "***" if secret else url.query, ""))


def resolve(handle: str) -> Path:
    """Returns the local folder of the SavedModel that a handle means, downloading or unpacking as needed.

    Args:
      handle: `minilm`, a folder, a `.tar.gz` file, or a URL that tensorflow-hub knows; downloads are kept
        where tensorflow-hub keeps them (TFHUB_CACHE_DIR).

    Raises:
      UsageError: nothing is there, or what is there is no SavedModel.
    """
    if handle == MINILM:
        from transforms.encoder.export import ensure_minilm

        return ensure_minilm(cache_dir())
    scheme = handle.split("://", 1)[0] if "://" in handle else ""
    if scheme and scheme not in (*_REMOTE, "file"):
        raise UsageError(
            f"--model {redact(handle)}: scheme {scheme!r} is not one of {', '.join(_REMOTE)}; "
            "give a local folder, a .tar.gz, a URL or 'minilm'"
        )
    if scheme in _REMOTE:
        return _check_saved_model(_below_top_folder(_download(handle)), handle)
    path = Path(handle.removeprefix("file://")).expanduser()
    if not path.exists():
        raise UsageError(
            f"--model {handle}: no such file or folder; expected a SavedModel folder, a .tar.gz of one, "
            "a URL or 'minilm'"
        )
    if path.is_dir():
        return _check_saved_model(path, handle)
    if re.search(r"\.(tar\.gz|tgz|tar)$", path.name):
        return _check_saved_model(_below_top_folder(_unpack(path)), handle)
    raise UsageError(f"--model {handle}: is a file; expected a SavedModel folder or a .tar.gz of one")


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
            f"--model {redact(handle)}: not a SavedModel: no saved_model.pb in it (found: {found}); "
            "a BERT checkpoint becomes one by `embedbeam export CHECKPOINT_DIR MODEL_DIR`"
        )
    return folder


def _download(handle: str) -> Path:
    from transforms.encoder.encoder import import_tensorflow

    import_tensorflow()  # tensorflow-hub would import it too, and let it write to the screen
    import tensorflow_hub as hub

    try:
        found = hub.resolve(handle)
        return _copy(found) if "://" in found else Path(found)  # a bucket's folder is left where it is
    except Exception as e:  # tensorflow-hub passes on whatever urllib, tarfile and tf.io.gfile raise
        reason = redact_in(str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__, handle)
        raise UsageError(
            f"--model {redact(handle)}: cannot be fetched ({reason}); check the address, the network and "
            "your credentials"
        ) from None


def _copy(remote: str) -> Path:
    """Copies a folder of an object store into the cache, once for every state of its files."""
    import tensorflow as tf

    gfile = tf.io.gfile
    files = [f"{folder}/{name}" for folder, _, names in gfile.walk(remote.rstrip("/")) for name in names]
    states = [(file, (state := gfile.stat(file)).length, state.mtime_nsec) for file in sorted(files)]
    target = cache_dir() / "models" / hashlib.sha256(repr(states).encode()).hexdigest()[:32]
    if not target.exists():
        with _building(target) as temporary:
            for file, _, _ in states:
                local = temporary / file.removeprefix(remote.rstrip("/") + "/")
                local.parent.mkdir(parents=True, exist_ok=True)
                gfile.copy(file, str(local))
    return target


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


def redact_in(message: str, handle: str) -> str:
    """Replaces a handle inside a message by its redacted form."""
    return message.replace(handle, redact(handle))


def _below_top_folder(folder: Path) -> Path:
    """Many archives hold one top folder; TF Hub's own hold the model at the top."""
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder


def _unpack(archive: Path) -> Path:
    """Unpacks an archive once into the cache, safely: no path outside, no links out, no device files."""
    try:
        target = cache_dir() / "models" / _sha256(archive)[:32]
        if not target.exists():
            _check_gzip(archive)
            with _building(target) as temporary, tarfile.open(archive) as tar:
                tar.extractall(temporary, filter="data")
        return target
    except (tarfile.TarError, EOFError, OSError, zlib.error) as e:
        reason = (
            "no tar archive" if type(e) is tarfile.ReadError else e
        )  # it tells of every compression tried
        raise UsageError(f"--model {archive}: cannot be unpacked ({reason}); fetch or pack it again") from e


def _check_gzip(archive: Path) -> None:
    """Reads a .gz to its end and so to its checksum: tarfile takes a broken header for the end."""
    with open(archive, "rb") as f:
        if f.read(2) != b"\x1f\x8b":
            return
    with gzip.open(archive) as unzipped:
        while unzipped.read(_CHUNK):
            pass


def _sha256(file: Path) -> str:
    with open(file, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
