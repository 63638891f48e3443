"""Ctrl-C and SIGTERM: a job on a cluster is cancelled, what is committed is said, and the process ends."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.run.screen import SHOW_CURSOR

_STORE_SECONDS = 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
Tell = Callable[[str], None]


def on_signals(screen: int, last: Callable[[Tell], None] = lambda tell: tell("")) -> None:
    """Makes Ctrl-C and SIGTERM end the process at once: no traceback, not even of imports that are cut off.

    Threads inside the model cannot be interrupted, so nothing waits for them: what is committed is safe.

    Args:
      screen: a descriptor of standard error, which itself is muted while TensorFlow's libraries load.
      last: what is done before the end; it gets a function that puts text on the screen.
    """

    def tell(text: str) -> None:  # not print: the signal may have come in the middle of one
        clean = SHOW_CURSOR if os.isatty(screen) else b""
        os.write(screen, clean + text.encode("utf-8", "backslashreplace"))

    def stop(number: int, _frame: Any) -> None:
        for other in _SIGNALS:  # who asks twice does not want to wait
            signal.signal(other, lambda again, _: os._exit(128 + again))
        try:
            last(tell)
        finally:
            if pending := sys.modules.get("transforms.output.pending"):
                getattr(pending, "delete_unfinished", bool)()  # it may be half imported
            os._exit(128 + number)

    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, stop)


def cancel_remote(tell: Tell) -> None:
    """Cancels the job that this process has sent to a cluster, if there is one."""
    remote = sys.modules.get("pipeline.cluster.remote")
    job = getattr(remote, "current", None)  # it may be half imported
    if job is None:
        return
    try:
        if job.remote:
            tell(f"embedbeam: stopping: job {job.name} is being cancelled\n")
            if not job.cancel():
                tell(f"embedbeam: job {job.name} may still run: the cluster does not say it is gone\n")
    finally:
        job.stop_servers()


def stop_job(output: str, command: Sequence[str], replaced: str, tell: Tell) -> None:
    """Cancels a job on a cluster, then says what is committed and how to go on.

    Args:
      output: the output folder.
      command: what was typed, which goes on with the job when it is typed again.
      replaced: what has become of an earlier job's output that this one is to replace; empty where none is.
    """
    from transforms.output.folder import Folder

    words = f"embedbeam: stopped. To go on:\n  {resume_command(command, keep_overwrite=bool(replaced))}\n"

    def look() -> None:
        nonlocal words
        words = stopped_text(output, command, replaced=replaced)
        Folder(output).sweep(own=True)

    cancel_remote(tell)
    if Folder(output).local:
        look()
    else:  # a store may not answer
        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        looking.join(_STORE_SECONDS)
    tell(words)


def resume_command(command: Sequence[str], *, keep_overwrite: bool = False) -> str:
    """The command that goes on with a job: the one that began it, without secrets.

    `--overwrite` is left out of it, unless the earlier job is still there that it shall replace.

    >>> resume_command(["embedbeam", "embed", "--overwrite", "--s3_secret_access_key=abc"])
    "embedbeam embed '--s3_secret_access_key=***'"
    """
    from pipeline.options.secrets import redact_arguments

    kept = [argument for argument in command if keep_overwrite or argument != "--overwrite"]
    return shlex.join(redact_arguments(kept))


def stopped_text(output: str, command: Sequence[str], *, replaced: str = "") -> str:
    """What is committed, and how to go on; arguments as of `stop_job`."""
    from transforms.output import layout
    from transforms.output.folder import Folder

    folder = Folder(output)
    plan = folder.read(layout.PLAN)
    if plan is None:
        return "embedbeam: stopped before anything was written\n"
    if replaced:
        said = (
            "stopped before the new plan was written: nothing of it is committed, and what the earlier job "
            f"left in {output} {replaced}. To begin the new job"
        )
    else:
        shards, done = max(0, plan.count(b"\n") - 1), len(folder.shards(layout.RECEIPTS))
        said = f"stopped; {done} of {shards} shards are committed in {output}. To go on"
    return f"embedbeam: {said}:\n  {resume_command(command, keep_overwrite=bool(replaced))}\n"
