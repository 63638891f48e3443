"""The folder that gets the answers to many questions: one search's own, from its first part to its last."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

from pipeline.run.output import output_lock
from pipeline.target import check
from transforms.errors import UsageError
from transforms.output import layout
from transforms.output.folder import Folder
from transforms.storage.objects import list_objects

QUERIES = "_queries"  # the output of the job that embedded the questions
PARTS = "_parts"  # what was found in each part
_RECORD = f"{layout.STATE}/search.json"  # says that the two are a search's, which may delete them


def check_target(folder: Folder) -> None:
    """Raises UsageError where the folder holds what no search made and the answers would do away with."""
    check(folder.path, folder=True)
    if folder.read(layout.PLAN) is not None:
        raise UsageError(f"--to {folder.path}: is the output of a job; choose another folder", argument="to")
    if folder.read(_RECORD) is not None:
        return
    state = sorted(folder.names(layout.STATE).keys() - {os.path.basename(layout.LOCK)})
    if foreign := [*(f"{layout.STATE}/{name}" for name in state), *_made(folder)]:
        raise UsageError(
            f"--to {folder.path}: holds what no search made, e.g. {foreign[0]}; choose another folder",
            argument="to",
        )


@contextlib.contextmanager
def held(folder: Folder) -> Iterator[None]:
    """Keeps a second search out of the folder; a mistake found before anything was made leaves no trace."""
    check_target(folder)  # before a lock is laid into it
    with output_lock(folder, "--to"):
        check_target(folder)
        try:
            yield
        except UsageError:
            if not _made(folder):
                folder.delete(_RECORD)
            raise


def begin(folder: Folder, questions: Any = None) -> None:
    """Notes that what is made in the folder is a search's; of other questions the embedded ones are deleted.

    Args:
      questions: all that makes the embedded ones what they are, in JSON's types; None where none are.
    """
    said = json.dumps({"questions": questions}).encode()
    if questions is not None and folder.read(_RECORD) != said:
        folder.delete_folder(QUERIES)
    if questions is not None or folder.read(_RECORD) is None:
        folder.write(_RECORD, said)


def end(folder: Folder) -> None:
    """Deletes what a run that is killed would go on with, the record last."""
    if folder.read(_RECORD) is not None:
        for made in (PARTS, QUERIES):
            folder.delete_folder(made)
    folder.delete_folder(layout.STATE)


def _made(folder: Folder) -> list[str]:
    """Which of the two are there."""
    if folder.local:
        return [name for name in (QUERIES, PARTS) if os.path.exists(folder.join(name))]
    return [name for name in (QUERIES, PARTS) if list_objects(f"{folder.join(name)}/", deep=False)]
