"""Runs a command that ends, with all that it starts, when whoever started it is gone, however that ended.

    python guard.py COMMAND ...

Standard input is a pipe whose other end the starter holds and never writes to: it closes when the starter
ends, even by SIGKILL. This process leads a process group, in which the command and what it starts stay.
"""

import os
import signal
import subprocess
import sys
import threading


def main(command: list[str]) -> int:
    """Returns the command's exit code; 128 and the number if a signal ended it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to the group: the command ends, and then this does
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    )
    threading.Thread(target=end_with_starter, daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


def end_with_starter() -> None:
    while os.read(0, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
