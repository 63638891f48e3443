"""Finding input files: a path, a glob or a folder, local or remote."""

from __future__ import annotations

import fnmatch
import functools
import os
import stat
from collections.abc import Iterable, Iterator

from transforms.errors import UsageError
from transforms.storage.beam_files import WILDCARD
from transforms.storage.client import FoundFile
from transforms.storage.objects import find_object, list_objects
from transforms.storage.urls import absolute_path, is_local, local_path

# The components of a pattern that are left to match, for each way in which those before it can have matched.
Left = frozenset[tuple[str, ...]]
_ANYTHING: Left = frozenset({("**",), ()})


def list_files(pattern: str, *, exclude: str | None = None) -> tuple[str, list[FoundFile]]:
    """Lists the files of a path, a glob (*, ?, [..], ** for any depth) or a folder, local or remote.

    What has a component below the root that starts with '.' or '_' is never listed, nor is anything below
    `exclude`. Linked folders are followed, but never into one of their own parents.

    Args:
      pattern: path, glob or folder; '~' is the home folder; a name with glob characters that exists is meant.
      exclude: a folder (the job's own output) below which nothing is listed.

    Returns:
      The root (the folder; for a glob, the fixed folder before its first wildcard; for a file, its folder)
      and the files, sorted by path; none where nothing matches. Local paths are absolute.

    Raises:
      UsageError: a folder cannot be listed, or a file given by name is one that is never read.
    """
    try:
        if not is_local(pattern):
            return _list_remote(pattern, () if exclude is None else (exclude.rstrip("/") + "/",))
        excluded = None
        if exclude is not None and is_local(exclude):
            excluded = os.path.realpath(os.path.expanduser(local_path(exclude)))
        root, found = _list_local(absolute_path(pattern), excluded)
        inside = excluded and os.path.commonpath([os.path.realpath(root), excluded]) == excluded
        return root, [] if inside else sorted(found)
    except OSError as e:
        reason = e.strerror or " ".join(str(e).split())
        raise UsageError(
            f"cannot list {e.filename or pattern}: {reason}; check the path and your rights"
        ) from e


def _after(left: Left, name: str) -> Left:
    """What is left when one more component is matched; () is in it where that can be all of the pattern."""
    if left == _ANYTHING:
        return left
    found = set()
    for parts in left:
        while parts[:1] == ("**",):  # which also matches no folder at all
            found.add(parts)
            parts = parts[1:] or ("*",)
        if parts and fnmatch.fnmatchcase(name, parts[0]):
            found.add(parts[1:])
    return frozenset(found)


def _list_local(path: str, excluded: str | None) -> tuple[str, Iterable[FoundFile]]:
    if os.path.isdir(path):
        return path, _walk(path, _ANYTHING, excluded)
    parent, name = os.path.split(path)
    if os.path.lexists(path):
        _check_name(name, path)
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):
            raise UsageError(f"{path} is not a regular file; copy its contents to one")
        return parent, [FoundFile(path, _printable(name), state.st_size, state.st_mtime)]
    # The root ends before the first component that holds a wildcard and does not exist under that very name.
    root, parts = os.path.abspath(os.sep), path.split(os.sep)[1:]
    while parts and (not WILDCARD.search(parts[0]) or os.path.lexists(os.path.join(root, parts[0]))):
        root = os.path.join(root, parts.pop(0))
    if parts and os.path.isdir(root):
        return root, _walk(root, frozenset({tuple(parts)}), excluded)
    return root if parts else parent, []


def _walk(root: str, left: Left, excluded: str | None) -> Iterator[FoundFile]:
    """The files below a folder that match; no folder is entered in vain."""
    entered = {_identity(folder) for folder in (root, excluded) if folder and os.path.isdir(folder)}
    # Folder, prefix of the sources below it, what is left of the pattern, and what is not entered again.
    stack = [(root, "", left, entered)]
    while stack:
        folder, prefix, left, entered = stack.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name[0] in "._" or not (below := _after(left, name)):
                    continue
                if entry.is_dir():
                    if below != {()} and (identity := _identity(entry.path)) not in entered:
                        stack.append((entry.path, f"{prefix}{name}/", below, entered | {identity}))
                elif () in below and entry.is_file():
                    state = entry.stat()
                    yield FoundFile(entry.path, _printable(prefix + name), state.st_size, state.st_mtime)
                elif () in below and entry.is_symlink():
                    raise UsageError(f"{entry.path} is a link to nothing; mend or remove it")


def _list_remote(pattern: str, excluded: tuple[str, ...]) -> tuple[str, list[FoundFile]]:
    def below(root: str, left: Left, prefix: str) -> list[FoundFile]:
        listed = []
        for file in list_objects(prefix):
            source = file.path.removeprefix(root.rstrip("/") + "/")
            names = source.split("/")
            hidden = any(name[:1] in (".", "_") for name in names) or file.path.startswith(excluded)
            if not hidden and () in functools.reduce(_after, names, left):
                listed.append(file._replace(source=source))
        return sorted(listed)

    wildcard = WILDCARD.search(pattern)
    root = path = pattern.rstrip("/")
    if wildcard:
        fixed = pattern[: wildcard.start()]
        root = fixed.rpartition("/")[0]
        if files := below(root, frozenset({tuple(pattern[len(root) + 1 :].split("/"))}), fixed):
            return root, files
    parent, _, name = path.rpartition("/")
    if not pattern.endswith("/") and not parent.endswith("/") and (single := find_object(path)):
        _check_name(name, path)
        return parent, [] if path.startswith(excluded) else [single[0]._replace(source=name)]
    return root, [] if wildcard else below(path, _ANYTHING, path + "/")


def _check_name(name: str, path: str) -> None:
    if name[0] in "._":
        raise UsageError(f"{path}: names that begin with '_' or '.' are never read as input; rename the file")


def _identity(folder: str) -> tuple[int, int]:
    state = os.stat(folder)
    return state.st_dev, state.st_ino


def _printable(source: str) -> str:
    """A source that any file can hold: bytes of a name that are not UTF-8 are escaped, as in dead letters."""
    return source.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
