"""Starts pipeline/embed.py for Airflow's Beam operator: one stream of output, ended together with the task.

The operator reads one of a job's two streams to its end before it reads the other: a job that writes more
than a pipe holds (64 KiB) to the other one would wait for ever. And where a task dies, the operator leaves
the job running: the retry would find the output folder in use.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

EMBED = Path(__file__).resolve().parents[2] / "pipeline" / "embed.py"
_PR_SET_PDEATHSIG = 1  # from Linux's prctl.h


def join_streams() -> None:
    """Standard error goes where standard output goes, whoever writes to it: Python, TensorFlow, or Java.

    The old standard error stays open, unused: at its end the operator would poll it without a pause.
    """
    os.set_inheritable(os.dup(2), True)
    os.dup2(1, 2)


def end_with_parent() -> None:
    """Asks Linux for a SIGTERM when the task ends; the job then cancels what it runs on a cluster."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def main(arguments: list[str]) -> None:
    join_streams()
    # Airflow lets go of the launcher of a Dataflow job as soon as the job has an id: the job must go on.
    if "--runner=DataflowRunner" not in arguments:
        end_with_parent()
    # The operator takes every line for UTF-8, and fails the task where one is not.
    os.environ["PYTHONIOENCODING"] = "utf-8:backslashreplace"
    os.execv(sys.executable, [sys.executable, str(EMBED), *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
