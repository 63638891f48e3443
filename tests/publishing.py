"""Publishers as processes of their own, each held where it has read the pointer and swaps next."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jobs

# Reads commands, a line each: an output to publish, or an empty line to roll back.
SCRIPT = """
import json, sys
from pipeline import publish as publishing
from transforms.errors import JobFailed
name, *flags = sys.argv[1:]
if "://" in name:
    from apache_beam.options.pipeline_options import PipelineOptions
    from transforms.storage.files import use_options
    use_options(PipelineOptions(flags))
check = publishing.check

def wait(output, path):
    check(output, path)
    print("ready", flush=True)
    sys.stdin.readline()

publishing.check = wait
for line in iter(sys.stdin.readline, ""):
    out = line.strip()
    try:
        told = publishing.publish(out, name, 50) if out else publishing.rollback(name)
        print(json.dumps(told), flush=True)
    except JobFailed as e:
        print(json.dumps({"error": str(e)}), flush=True)
"""


class Publisher:
    """One process; what it is told to do it does up to the swap, and then when it is let go."""

    def __init__(self, process: subprocess.Popen[str]):
        self._process = process

    def begin(self, output: str = "") -> None:
        print(output, file=self._process.stdin, flush=True)

    def wait(self) -> None:
        assert self._line() == "ready"

    def let_go(self) -> None:
        print(file=self._process.stdin, flush=True)

    def kill(self) -> None:
        self._process.kill()

    def told(self) -> dict[str, Any]:
        return json.loads(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextlib.contextmanager
def publishers(count: int, name: str, flags: Sequence[str] = ()) -> Iterator[list[Publisher]]:
    with contextlib.ExitStack() as stack:
        command = [sys.executable, "-c", SCRIPT, name, *flags]
        started = [jobs.start(*command, stdin=subprocess.PIPE, stderr=None) for _ in range(count)]
        for process in started:
            stack.enter_context(process)
            stack.callback(process.kill)
        yield [Publisher(process) for process in started]


def all_at_once(some: Sequence[Publisher], outputs: Sequence[str]) -> list[dict[str, Any]]:
    """Lets each publish its output, or roll back, when all have read the pointer; what they were told."""
    for one, output in zip(some, outputs, strict=True):
        one.begin(output)
    for one in some:
        one.wait()
    for one in some:
        one.let_go()
    return [one.told() for one in some]
