"""Processes of trials: TensorFlow takes its thread counts once, and memory that runs out may end one."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from pipeline.options.options import Options
from transforms.errors import JobFailed

_POLL_SECONDS = 0.1
# Of the memory that is free when a process begins it may take so much.
_SHARE = 0.8


class RanOut(Exception):
    """The process took too much memory, or was killed: by us, or by the machine."""


class TooSlow(Exception):
    """There was no answer in the time that there was for it."""


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model as a process of trials has loaded it.

    Attributes:
      digest: of its files.
      device: CPU or GPU.
      name, cores: of the machine, as `tuned` wants them.
      batch_tokens, in_flight: what a job would take that knows nothing better.
    """

    digest: str
    device: str
    name: str
    cores: int
    batch_tokens: int
    in_flight: int


class TrialProcess:
    """A process with a loaded model. It ends with this one, however that ends, since it holds a socket."""

    def __init__(self, options: Options, intra_op: int | None):
        here, there = socket.socketpair()
        with here, there:
            command = [sys.executable, "-m", "pipeline.tune.child", str(there.fileno())]
            # A session of its own: Ctrl-C is for this process, and what follows from it is quiet.
            self._process = subprocess.Popen(
                command,
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if options.verbose else subprocess.DEVNULL,
                start_new_session=True,
            )
            self._connection = Connection(here.detach())
        self._most = held_bytes(self._process.pid) + int(_SHARE * free_bytes())
        self._connection.send((options, intra_op))

    def ask(self, question: Any, until: float) -> Any:
        """Sends a question and waits for its answer, as `answer`."""
        with contextlib.suppress(OSError):  # a process that is gone gives no answer
            self._connection.send(question)
        return self.answer(until)

    def answer(self, until: float) -> Any:
        """Waits for an answer, until a moment of time.monotonic(); the first one is what was Loaded.

        Raises:
          RanOut, TooSlow: the process is gone.
          EmbedbeamError: what it raised; it is gone, too.
        """
        try:
            while not self._connection.poll(_POLL_SECONDS):
                if held_bytes(self._process.pid) > self._most:
                    raise RanOut
                if time.monotonic() > until:
                    raise TooSlow
            answer = self._connection.recv()
            if isinstance(answer, Exception):
                raise answer
        except (EOFError, ConnectionError) as e:
            code = self.end()
            # SIGKILL is how the machine ends what takes too much; a libc that gets no memory aborts.
            if code in (-signal.SIGKILL, -signal.SIGABRT):
                raise RanOut from e
            raise JobFailed(f"a process of trials ended with {code}; --verbose shows what it said") from e
        except BaseException:
            self.end()
            raise
        return answer

    def end(self) -> int:
        """Ends the process; returns its exit code, which tells how it ended if it had already."""
        if self._process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2 if self._connection.closed else 0)
        self._process.kill()
        self._connection.close()
        return self._process.wait()


def free_bytes() -> int:
    """Memory that a new process may take on this machine, or in its container."""
    free = 1 << 62
    with contextlib.suppress(OSError, AttributeError, TypeError), open("/proc/meminfo") as f:
        free = int(re.search(r"MemAvailable:\s+(\d+) kB", f.read())[1]) << 10  # type: ignore[index]
    with contextlib.suppress(OSError, ValueError):  # "max": no limit
        numbers = []
        for name in ("max", "current"):
            with open(f"/sys/fs/cgroup/memory.{name}") as f:
                numbers.append(int(f.read()))
        free = min(free, numbers[0] - numbers[1])
    return max(0, free)


def held_bytes(pid: int) -> int:
    """Memory that a process holds; 0 where nobody tells."""
    try:
        with open(f"/proc/{pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
