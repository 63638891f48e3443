"""Runs the real command in this process and kills it, with SIGKILL, at the n-th time that a point is reached.

    python kill_at.py POINT N embed --input ... --output ...

A point is named by the step and the kind of file: `create part`, `sync part`, `rename part` (by a rename or
a link), `after rename part`, `delete part`, and so for `letters`, `receipt`, `plan`, `run`, `manifest`,
`success`, `forget` (what is being forgotten) and `log` (of what was); of what is published `record`
and `link` are renamed.
"""

import builtins
import os
import re
import signal
import sys

KINDS = {
    "part": r"part-[0-9a-f]{16}\.(parquet|tfrecord)",
    "letters": r"_dead_letters[-/]part-",
    "receipt": r"receipts[-/][0-9a-f]{16}\.json",
    "plan": r"plan\.jsonl",
    "run": r"run\.json",
    "manifest": r"manifest\.json",
    "success": r"_SUCCESS",
    "forget": r"forget\.json",
    "log": r"forgotten\.jsonl",
    "record": r"\.published\.json$",
    "link": r"/current$",
}


def kind_of(path):
    """What a temporary or final name in an output folder stands for."""
    name = os.fspath(path).partition("_embedbeam/tmp/")[2] or os.fspath(path)
    return next((k for k in ("letters", *KINDS) if re.search(KINDS[k], name)), None)


def kill_at(wanted, count):
    """Wraps the calls that commits are made of."""
    left = count

    def reached(step, path):
        nonlocal left
        if f"{step} {kind_of(path)}" == wanted:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    def opened(path, mode="r", *args, **kwargs):
        mine = isinstance(path, str) and "_embedbeam/tmp/" in path and "w" in mode
        if mine:
            reached("create", path)
        file = original_open(path, mode, *args, **kwargs)
        if mine:
            names[file.fileno()] = path
        return file

    def synced(descriptor):
        if descriptor in names:
            reached("sync", names.pop(descriptor))
        original_fsync(descriptor)

    def named_by(original):
        def named(source, target, **kwargs):
            reached("rename", target)
            original(source, target, **kwargs)
            reached("after rename", target)

        return named

    def deleted(path, **kwargs):
        mine = isinstance(path, str) and "_embedbeam/tmp/" not in path
        if mine:
            reached("delete", path)
        original_unlink(path, **kwargs)

    names = {}
    original_unlink, os.unlink = os.unlink, deleted
    original_open, original_fsync = builtins.open, os.fsync
    builtins.open, os.fsync = opened, synced
    # A link gives a file its name where nothing of that name may be replaced.
    os.replace, os.link = named_by(os.replace), named_by(os.link)


if __name__ == "__main__":
    kill_at(sys.argv[1], int(sys.argv[2]))
    from pipeline.cli import main

    code = main(sys.argv[3:])
    print(f"{sys.argv[1]} was not reached {sys.argv[2]} times")
    sys.exit(code or 99)
