"""Where pages, pictures and tables that are made of an output go: whole files or none."""

from __future__ import annotations

import os
from pathlib import Path

from transforms.errors import UsageError
from transforms.output import layout
from transforms.output.folder import Folder
from transforms.output.pending import PendingFile, process_token
from transforms.storage.files import is_local, local_path

_STORES = ("s3", "gs", "az", "hdfs")


def check(path: str, *, folder: bool, flag: str = "--to") -> None:
    """Looks whether a file, or a folder, could be written there; nothing is.

    Args:
      flag: the option that names it, for messages.

    Raises:
      UsageError: the path is empty, of the other kind, goes through a file, or is of an unknown store.
    """
    wanted, other = ("a folder", "file") if folder else ("the name of a file", "folder")
    problem = ""
    if not path:
        problem = f"is empty; expected {wanted}"
    elif is_local(path):
        here = os.path.abspath(local_path(path))
        if os.path.exists(here) and os.path.isdir(here) != folder:
            problem = f"is a {other}; expected {wanted}"
        elif below := [str(one) for one in Path(here).parents if one.is_file()]:
            problem = f"{below[0]} is a file; expected {wanted}"
        elif not folder and Folder(os.path.dirname(here)).read(layout.PLAN) is not None:
            problem = "lies in the output of a job, whose rows it would be taken for; choose another folder"
    elif path.partition("://")[0] not in _STORES:
        problem = f"expected a path, or a URL that begins with {', '.join(_STORES)}"
    if problem:
        name = flag.removeprefix("--").replace("-", "_")
        raise UsageError(f"{' '.join(filter(None, (flag, path)))}: {problem}", argument=name)


def begin(path: str) -> PendingFile:
    """Begins a file at a path or URL of the user's; it appears at `commit`.

    Raises:
      UsageError: it cannot be one.
    """
    if not is_local(path):
        return PendingFile(path)
    check(path, folder=False)
    path = os.path.abspath(local_path(path))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return PendingFile(path, f"{path}.{process_token()}.tmp")


def begin_in(folder: Folder, name: str, to: str | None) -> PendingFile:
    """Begins a file of an output folder, or of the folder `to` if that is given."""
    return folder.create(name) if to is None else begin(f"{to.rstrip('/')}/{name.rpartition('/')[2]}")
