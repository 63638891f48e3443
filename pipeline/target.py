"""Where pages, pictures and tables that are made of an output go: whole files or none."""

from __future__ import annotations

import os

from transforms.errors import UsageError
from transforms.output.folder import Folder
from transforms.output.pending import PendingFile, process_token
from transforms.storage.files import is_local, local_path


def begin(path: str) -> PendingFile:
    """Begins a file at a path or URL of the user's; it appears at `commit`.

    Raises:
      UsageError: a folder is there.
    """
    if not is_local(path):
        return PendingFile(path)
    path = os.path.abspath(local_path(path))
    if os.path.isdir(path):
        raise UsageError(f"--to {path}: is a folder; expected the name of a file", argument="to")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return PendingFile(path, f"{path}.{process_token()}.tmp")


def begin_in(folder: Folder, name: str, to: str | None) -> PendingFile:
    """Begins a file of an output folder, or of the folder `to` if that is given."""
    return folder.create(name) if to is None else begin(f"{to.rstrip('/')}/{name.rpartition('/')[2]}")
