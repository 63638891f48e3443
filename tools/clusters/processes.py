"""Starts processes on 127.0.0.1, waits until they are ready, and leaves none behind."""

from __future__ import annotations

import atexit
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

GUARD = Path(__file__).with_name("guard.py")
PORTS = (11_000, 32_000)
STOP_SECONDS = 8  # from TERM to KILL


class StartError(Exception):
    """A process ended, or was not ready in time; the message has its last log lines."""


def free_ports(count: int) -> list[int]:
    """`count` ports that nothing listens on.

    Below those that the system gives to outgoing connections: one of these could take a port again before the
    process that it is meant for has started.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(*PORTS)
        with socket.socket() as one, suppress(OSError):
            one.bind(("", port))
            found += [port] if port not in found else []
    return found


def listens(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


def last_lines(log: Path, count: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-count:]) if log.exists() else ""


def descendants(pid: int) -> list[int]:
    """The running processes below `pid`, read from /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except (OSError, ValueError):
                continue  # it ended meanwhile
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


class Processes:
    """Processes that end together: at `stop`, and at the end of the program, SIGKILL included.

    Each one is in a process group of its guard's, so that what it starts ends with it.
    """

    def __init__(self) -> None:
        self._started: list[subprocess.Popen] = []
        atexit.register(self.stop)
        # Python's default at SIGTERM is to die at once, without atexit.
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        ):
            signal.signal(signal.SIGTERM, _exit_at_sigterm)

    def start(
        self, command: list[str], *, log: Path, environment: dict[str, str] | None = None
    ) -> subprocess.Popen:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            process = subprocess.Popen(
                [sys.executable, "-S", str(GUARD), *command],
                stdin=subprocess.PIPE,  # its end tells the guard that this process is gone
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=log.parent,
                start_new_session=True,
            )
        process.log = log  # type: ignore[attr-defined]
        self._started.append(process)
        return process

    def wait_until(self, ready: Callable[[], bool], *, what: str, seconds: float = 60) -> None:
        """Waits until `ready()`; an OSError of its is a "not yet".

        Raises:
            StartError: one of the processes ended, or `seconds` went by. All of them are stopped.
        """
        limit = time.monotonic() + seconds
        while not _is(ready):
            ended = [process for process in self._started if process.poll() is not None]
            if ended or time.monotonic() > limit:
                late = (ended or self._started)[-1]
                why = (
                    f"a process ended with code {late.returncode}"
                    if ended
                    else f"not ready in {seconds:.0f} s"
                )
                self.stop()
                raise StartError(f"{what}: {why}; {late.log} ends with:\n{last_lines(late.log)}")  # type: ignore[attr-defined]
            time.sleep(0.1)

    def kill(self, process: subprocess.Popen) -> None:
        """Kills a process and all that it started, as when a machine dies."""
        _signal_group(process, signal.SIGKILL)
        process.wait()
        self._started.remove(process)

    def pids(self) -> list[int]:
        return [process.pid for process in self._started]

    def stop(self) -> None:
        """Ends all: TERM, and KILL for what is there some seconds later."""
        atexit.unregister(self.stop)
        started, self._started = self._started[::-1], []
        for process in started:
            _signal_group(process, signal.SIGTERM)
        limit = time.monotonic() + STOP_SECONDS
        for process in started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, limit - time.monotonic()))
            _signal_group(process, signal.SIGKILL)  # also what it started and did not end
            process.wait()


def _is(ready: Callable[[], bool]) -> bool:
    try:
        return ready()
    except OSError:
        return False  # its port does not answer yet


def _signal_group(process: subprocess.Popen, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _exit_at_sigterm(number: int, frame: object) -> None:
    raise SystemExit(128 + number)
