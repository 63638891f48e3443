"""Finding input files: a path, a glob or a folder, local or remote."""

from __future__ import annotations

import fnmatch
import operator
import os
import re
import stat

from transforms.errors import UsageError
from transforms.storage.files import (
    WILDCARD,
    FoundFile,
    absolute_path,
    exact_remote,
    is_local,
    list_remote,
    local_path,
)


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
        if is_local(pattern):
            return _list_local(absolute_path(pattern), exclude)
        return _list_remote(pattern, exclude)
    except OSError as e:
        reason = e.strerror or " ".join(str(e).split())
        raise UsageError(
            f"cannot list {e.filename or pattern}: {reason}; check the path and your rights"
        ) from e


class _Pattern:
    """Matches the components below a root, one at a time, so that a walk enters no folder in vain.

    A state is the set of components of the pattern that the next name may match.
    """

    def __init__(self, parts: tuple[str, ...]):
        self._deep = [part == "**" for part in parts]
        self._match = [re.compile(fnmatch.translate(part)).match for part in parts]
        self.start = self._spread({0})

    def _spread(self, states: set[int]) -> frozenset[int]:
        for state in sorted(states):
            while state < len(self._deep) and self._deep[state]:  # ** also matches no folder at all
                states.add(state := state + 1)
        return frozenset(state for state in states if state < len(self._deep))

    def descend(self, states: frozenset[int], name: str) -> frozenset[int]:
        below = {i for i in states if self._deep[i]} | {i + 1 for i in states if self._match[i](name)}
        return self._spread(below)

    def accepts(self, states: frozenset[int], name: str) -> bool:
        last = len(self._deep) - 1
        return last in states and self._match[last](name) is not None

    def matches(self, source: str) -> bool:
        states = self.start
        *folders, name = source.split("/")
        for folder in folders:
            states = self.descend(states, folder)
        return self.accepts(states, name)


def _list_local(path: str, exclude: str | None) -> tuple[str, list[FoundFile]]:
    excluded = None
    if exclude is not None and is_local(exclude):
        excluded = os.path.realpath(os.path.expanduser(local_path(exclude)))
    if os.path.isdir(path):
        return path, _walk(path, ("**",), excluded)
    parent, name = os.path.split(path)
    if os.path.lexists(path):
        _check_name(name, path)
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):
            raise UsageError(f"{path} is not a regular file; copy its contents to one")
        if _lies_below(parent, excluded):
            return parent, []
        return parent, [FoundFile(path, _printable(name), state.st_size, state.st_mtime)]
    # The root ends before the first component that holds a wildcard and does not exist under that very name.
    root, parts = os.path.abspath(os.sep), path.split(os.sep)[1:]
    while parts and (not WILDCARD.search(parts[0]) or os.path.lexists(os.path.join(root, parts[0]))):
        root = os.path.join(root, parts.pop(0))
    if parts and os.path.isdir(root):
        return root, _walk(root, tuple(parts), excluded)
    return root if parts else parent, []


def _walk(root: str, parts: tuple[str, ...], excluded: str | None) -> list[FoundFile]:
    if _lies_below(root, excluded):
        return []
    excluded_id = _identity(excluded) if excluded is not None and os.path.isdir(excluded) else None
    pattern = _Pattern(parts)
    everything = parts == ("**",)
    found: list[FoundFile] = []
    # Folder, prefix of the sources below it, state of the pattern, and the folder's parents, against loops.
    stack: list[tuple[str, str, frozenset[int], tuple[tuple[int, int], ...]]]
    stack = [(root, "", pattern.start, (_identity(root),))]
    while stack:
        folder, prefix, states, parents = stack.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name[0] in "._":
                    continue
                if entry.is_dir():
                    below = pattern.descend(states, name)
                    identity = _identity(entry.path) if below else None
                    if identity is not None and identity != excluded_id and identity not in parents:
                        stack.append((entry.path, f"{prefix}{name}/", below, (*parents, identity)))
                elif everything or pattern.accepts(states, name):
                    if entry.is_file():
                        state = entry.stat()
                        source = _printable(prefix + name)
                        found.append(FoundFile(entry.path, source, state.st_size, state.st_mtime))
                    elif entry.is_symlink():
                        raise UsageError(f"{entry.path} is a link to nothing; mend or remove it")
    found.sort(key=operator.itemgetter(0))
    return found


def _list_remote(pattern: str, exclude: str | None) -> tuple[str, list[FoundFile]]:
    excluded = None if exclude is None else exclude.rstrip("/") + "/"

    def below(root: str, parts: tuple[str, ...], prefix: str) -> list[FoundFile]:
        matches = _Pattern(parts).matches
        listed = []
        for file in list_remote(prefix):
            source = file.path.removeprefix(root.rstrip("/") + "/")
            hidden = any(name[:1] in (".", "_") for name in source.split("/"))
            # Object stores keep empty markers 'folder/' for folders.
            marker = file.path.endswith("/")
            skipped = hidden or marker or _starts(file.path, excluded)
            if not skipped and matches(source):
                listed.append(file._replace(source=source))
        return sorted(listed)

    wildcard = WILDCARD.search(pattern)
    path = pattern.rstrip("/")
    root = path
    if wildcard:
        root, _, _ = pattern[: wildcard.start()].rpartition("/")
        files = below(root, tuple(pattern[len(root) + 1 :].split("/")), pattern[: wildcard.start()])
        if files:
            return root, files
    parent, _, name = path.rpartition("/")
    single = [] if pattern.endswith("/") or parent.endswith("/") else exact_remote(path)
    if single:
        _check_name(name, path)
        return parent, [] if _starts(path, excluded) else [single[0]._replace(source=name)]
    return root, [] if wildcard else below(path, ("**",), path + "/")


def _starts(path: str, folder: str | None) -> bool:
    return folder is not None and path.startswith(folder)


def _check_name(name: str, path: str) -> None:
    if name[0] in "._":
        raise UsageError(f"{path}: names that begin with '_' or '.' are never read as input; rename the file")


def _identity(folder: str) -> tuple[int, int]:
    state = os.stat(folder)
    return state.st_dev, state.st_ino


def _lies_below(folder: str, excluded: str | None) -> bool:
    if excluded is None:
        return False
    real = os.path.realpath(folder)
    return real == excluded or real.startswith(excluded.rstrip(os.sep) + os.sep)


def _printable(source: str) -> str:
    """A source that any file can hold: bytes of a name that are not UTF-8 are escaped, as in dead letters."""
    if source.isascii():
        return source
    return source.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
