"""Models of the Hugging Face Hub, by its own client: with its tokens, its cache and its offline mode."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import logging
import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from transforms.encoder.export.version import version_tag
from transforms.encoder.messages import model_error
from transforms.encoder.model import hub_files
from transforms.encoder.model.cache import cache_dir, locked, not_kept
from transforms.encoder.model.hub_errors import patiently, reason
from transforms.errors import UsageError

_FORM = "hf://ORG/NAME[@REVISION][/FOLDER]"
_REFS = ("refs/pr/", "refs/convert/")  # slashes in other revisions are %2F
_HANDLE = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@((?:refs/(?:pr|convert)/)?[^/@]+))?(?:/(.*))?")
_COMMIT = re.compile("[0-9a-f]{40}")
PRECISION = "float32"  # of the models that are made of checkpoints


@dataclasses.dataclass(frozen=True)
class HubHandle:
    """A handle's parts.

    Attributes:
      name: of the repository, with its owner.
      revision: a branch, a tag or a commit; None is the main branch.
      folder: in the repository; None looks for the model, "" is the repository's top.
    """

    name: str
    revision: str | None
    folder: str | None

    @property
    def commit(self) -> str | None:
        """The revision, if it is a commit, which means the same for ever."""
        return self.revision if self.revision and _COMMIT.fullmatch(self.revision) else None

    def __str__(self) -> str:
        revision = self.revision or ""
        if not revision.startswith(_REFS):
            revision = quote(revision, safe="")
        folder = "" if self.folder is None else f"/{self.folder or '.'}"
        return f"hf://{self.name}{'@' if revision else ''}{revision}{folder}"


def parse(handle: str) -> HubHandle:
    """Takes a handle apart.

    Raises:
      UsageError: it is not of the form.

    >>> parse("hf://org/name@v1/tf/1")
    HubHandle(name='org/name', revision='v1', folder='tf/1')
    """
    found = _HANDLE.fullmatch(handle)
    folder = posixpath.normpath(found[3]) if found and found[3] else None
    if found is None or (folder and folder.startswith("..")):
        raise model_error(handle, f"expected {_FORM}")
    return HubHandle(found[1], found[2] and unquote(found[2]), "" if folder == "." else folder)


def pin(handle: str) -> str:
    """The handle with its revision's commit, by which the model is the same everywhere and later.

    Raises:
      UsageError: there is no such repository or revision, or it cannot be asked.
    """
    where = parse(handle)
    if where.commit:
        return str(where)
    with _told(handle, where) as hub:
        commit = patiently(lambda: hub.HfApi().resolve_revision(where.name, revision=where.revision)).resolved
    return str(dataclasses.replace(where, revision=commit))


def fetch(handle: str) -> Path:
    """The SavedModel of a repository on this machine: its own, or one made of its checkpoint, once.

    Args:
      handle: with a commit, see `pin`.

    Raises:
      UsageError: it cannot be had, has no model, or a checkpoint that the exporter refuses.
    """
    where = parse(handle)
    assert where.commit
    made = cache_dir() / "exported" / _made_name(where)
    if made.exists():
        return made
    with _told(handle, where) as hub:
        names = _names(hub, where)
        try:
            model = hub_files.saved_model(names, where.folder)
            wanted = hub_files.of_checkpoint(names, where.folder or "") if model is None else model.files
        except hub_files.NoModel as e:
            raise model_error(handle, str(e)) from e
        snapshot = _download(hub, where, wanted)
    if model is not None:
        return snapshot / model.folder
    _export(handle, snapshot / (where.folder or ""), made)
    return made


def _names(hub: Any, where: HubHandle) -> list[str]:
    """The files of the repository at the commit; from the client's cache, if it knows them."""
    try:
        listed = hub.get_cached_repo_tree(where.name, revision=where.commit)
    except hub.errors.CachedRepoTreeNotFoundError:
        try:
            tree = hub.HfApi().list_repo_tree
            listed = patiently(lambda: list(tree(where.name, revision=where.commit, recursive=True)))
        except (OSError, hub.errors.OfflineModeIsEnabled):
            # Older clients keep files without a list of what there is.
            with contextlib.suppress(OSError):
                kept = hub.snapshot_download(where.name, revision=where.commit, local_files_only=True)
                return [path.relative_to(kept).as_posix() for path in Path(kept).rglob("*") if path.is_file()]
            raise
    return [one.path for one in listed if hasattr(one, "size")]  # folders have none


def _download(hub: Any, where: HubHandle, names: Sequence[str]) -> Path:
    from tqdm import tqdm

    class NoBar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs | {"disable": True})

    patterns = [glob.escape(name) for name in names]
    settings = {"allow_patterns": patterns, "tqdm_class": NoBar, "library_name": "embedbeam"}
    return Path(patiently(lambda: hub.snapshot_download(where.name, revision=where.commit, **settings)))


def _export(handle: str, checkpoint: Path, made: Path) -> None:
    from transforms.encoder.export import export

    try:
        with locked(made.name):
            if not made.exists():
                export(checkpoint, made, precision=PRECISION)
    except UsageError as e:
        why = str(e).replace(f"{checkpoint}/", "").replace(str(checkpoint), "the checkpoint")
        raise model_error(handle, f"its checkpoint cannot be exported: {why}") from e
    except OSError as e:
        raise model_error(handle, not_kept(e)) from e


def _made_name(where: HubHandle) -> str:
    """Another name for whatever can change the model's bytes: commit, exporter, TensorFlow, precision."""
    tag = version_tag(repr((where, PRECISION)))
    return f"{where.name.replace('/', '--')}-{(where.commit or '')[:12]}-{tag}"


@contextlib.contextmanager
def _told(handle: str, where: HubHandle) -> Iterator[Any]:
    """The client; what it raises becomes one line."""
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors, get_cached_repo_tree  # noqa: F401  not in older ones
    except ImportError as e:
        raise model_error(handle, "needs one more package: pip install 'embedbeam[hf]'") from e
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.CRITICAL)  # its warnings show signed addresses
    try:
        yield hub
    except UsageError:
        raise
    except Exception as e:  # of the client, of its HTTP library, of the disk
        raise model_error(handle, reason(e, where.name, where.revision)) from None
    finally:
        log.setLevel(level)
