"""Ctrl-C and SIGTERM: a job on a cluster is cancelled, what is committed is said, and the process ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.run.screen import SHOW_CURSOR

_STORE_SECONDS = 10.0


def on_signals(output: str, command: Sequence[str], screen: int, *, replaced: Callable[[], str]) -> None:
    """Makes Ctrl-C and SIGTERM say what is committed and how to go on, then end the process at once.

    Threads inside the model cannot be interrupted, so nothing waits for them: what is committed is safe. A
    job on a cluster is cancelled first.

    Args:
      output: the output folder.
      command: what was typed, which goes on with the job when it is typed again.
      screen: a descriptor of standard error, which itself is muted while TensorFlow's libraries load.
      replaced: what has become of an earlier job's output that this one is to replace; empty where none is.
    """

    def tell(text: str) -> None:  # not print: the signal may have come in the middle of one
        os.write(screen, text.encode("utf-8", "backslashreplace"))

    def stop(number: int, _frame: Any) -> None:
        for other in (signal.SIGINT, signal.SIGTERM):  # who asks twice does not want to wait
            signal.signal(other, lambda again, _: os._exit(128 + again))
        remote = sys.modules.get("pipeline.cluster.remote")
        job = remote.current() if remote else None
        try:
            if job is not None and job.remote:
                tell(f"embedbeam: stopping: job {job.name} is being cancelled\n")
                if not job.cancel():
                    tell(f"embedbeam: job {job.name} may still run: the cluster does not say it is gone\n")
            tell(_last_words(output, command, replaced()))
        finally:
            if job is not None:
                job.stop_servers()
            os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def die_quietly(screen: int) -> None:
    """Until a command has something to say at its end: no traceback of imports that were cut off."""
    if threading.current_thread() is not threading.main_thread():
        return

    def stop(number: int, _frame: Any) -> None:
        if os.isatty(screen):
            os.write(screen, SHOW_CURSOR)
        os._exit(128 + number)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


def _last_words(output: str, command: Sequence[str], replaced: str) -> str:
    """What is committed; an object store that does not answer is not waited for."""
    from pipeline.run.summary import resume_command, stopped_text
    from transforms.output.folder import Folder

    words: list[str] = []

    def look() -> None:
        words.append(stopped_text(output, command, replaced=replaced))
        Folder(output).sweep(own=True)

    if Folder(output).local:
        look()
    else:
        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        looking.join(_STORE_SECONDS)
    resume = resume_command(command, keep_overwrite=bool(replaced))
    return words[0] if words else f"embedbeam: stopped. To go on:\n  {resume}\n"
