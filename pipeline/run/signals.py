"""Ctrl-C and SIGTERM: a job on a cluster is cancelled, what is committed is said, and the process ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from transforms.storage.files import is_local

_STORE_SECONDS = 10.0


def on_signals(output: str, command: Sequence[str]) -> None:
    """Makes Ctrl-C and SIGTERM say what is committed and how to go on, then end the process at once.

    Threads inside the model cannot be interrupted, so nothing waits for them: what is committed is safe. A
    job on a cluster is cancelled first.

    Args:
      output: the output folder.
      command: what was typed, which goes on with the job when it is typed again.
    """
    screen = os.dup(2)  # standard error itself is muted while TensorFlow's libraries load

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
            tell(_last_words(output, command))
        finally:
            if job is not None:
                job.stop_servers()
            os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _last_words(output: str, command: Sequence[str]) -> str:
    """What is committed; an object store that does not answer is not waited for."""
    from pipeline.run.summary import resume_command, stopped_text
    from transforms.output.folder import Folder

    words: list[str] = []

    def look() -> None:
        words.append(stopped_text(output, command))
        Folder(output).sweep(own=True)

    if is_local(output):
        look()
    else:
        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        looking.join(_STORE_SECONDS)
    return words[0] if words else f"embedbeam: stopped. To go on:\n  {resume_command(command)}\n"
