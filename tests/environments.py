"""Environments of their own for what tests need beside ours, in the cache."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path


def environment(name, says, install):
    """The folder of an environment that is there whole; made where there is none yet.

    Args:
      name: begins the folder's name.
      says: strings that tell it from others.
      install: makes it, in the folder that it gets.
    """
    key = hashlib.sha256("\n".join(says).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("EMBEDBEAM_CACHE") or "~/.cache/embedbeam").expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"{name}-{key}"
    with open(cache / f"{name}-{key}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once make one environment
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a killed installation left
            install(folder)
            # Where Python writes no bytecode each process would compile all that it imports.
            compiling = [sys.executable, "-m", "compileall", "-qq", "-j", "0", folder / "lib"]
            subprocess.run(compiling, check=False)  # templates are no Python
            (folder / "complete").touch()
    return folder
