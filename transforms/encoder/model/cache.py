"""Where models are kept on this machine: each is made once, and appears whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


def cache_dir() -> Path:
    """Where embedbeam keeps what it builds or unpacks: EMBEDBEAM_CACHE, or ~/.cache/embedbeam."""
    return Path(os.environ.get("EMBEDBEAM_CACHE") or "~/.cache/embedbeam").expanduser()


def built(target: Path, fill: Callable[[Path], None]) -> Path:
    """A folder that `fill` fills, once: it gets its name when it is whole, if no other process was first."""
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    parent, prefix = target.parent, ".building-"
    with tempfile.TemporaryDirectory(dir=parent, prefix=prefix, ignore_cleanup_errors=True) as scratch:
        temporary = Path(scratch, "whole")
        temporary.mkdir(mode=0o700)
        fill(temporary)
        with contextlib.suppress(OSError):
            temporary.rename(target)
    if not target.exists():
        raise OSError(f"cannot be moved to {target}")
    return target


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """One process of this machine at a time; the lock goes with its process, however that ends."""
    path = cache_dir() / "locks" / name
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # an image's file system may be read-only: nobody writes to it
            path.parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context(open(path, "a")), fcntl.LOCK_EX)
        yield


def not_kept(error: OSError) -> str:
    """What to say where the cache cannot be written."""
    where = f"{cache_dir()}: {error.strerror or error}"
    return f"cannot be kept in {where}; make room or allow it, or set EMBEDBEAM_CACHE to another folder"
