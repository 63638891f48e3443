"""Standard error as people see it: one live line on a terminal, a plain line elsewhere when it takes long."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

# Where a live line is cut off in the middle.
SHOW_CURSOR = b"\r\x1b[K\x1b[?25h"

_LIVE_SECONDS = 0.2
_PLAIN_SECONDS = 30.0
_LONG_SECONDS = 15.0  # a step of the start that takes so long is named where there is no terminal
Step = str | Callable[[], str]
Told = Callable[[Step], None]  # hears what is being done


def duration(seconds: float) -> str:
    """A time span as people read it.

    >>> duration(5), duration(75), duration(7380), duration(200000)
    ('5s', '1m15s', '2h03m', '2d07h')
    """
    s = round(seconds)
    for size, unit, below, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if s >= size:
            return f"{s // size}{unit}{s % size // below:02d}{name}"
    return f"{s}s"


def print_json(result: Any) -> None:
    """One JSON object on one line; of a dataclass its fields. JSON knows no NaN or infinity: null."""
    text = json.dumps(result, ensure_ascii=False, default=_in_json)
    if "NaN" in text or "Infinity" in text:
        text = json.dumps(json.loads(text, parse_constant=lambda _: None), ensure_ascii=False)
    print(text.encode("utf-8", "backslashreplace").decode(), flush=True)


def _in_json(value: Any) -> Any:
    """What a value is where JSON has no such type: a date in ISO 8601, bytes in Base64, others in words."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


class Screen:
    """What a command says while it works.

    Standard error is kept as it was at first: TensorFlow's libraries write to it while they load, so it is
    muted meanwhile, in whichever thread they load.
    """

    def __init__(self, *, quiet: bool = False):
        self.fd = os.dup(2)
        self.quiet = quiet
        self._file = os.fdopen(self.fd, "w", errors="backslashreplace")
        self._steps: list[tuple[Step, float]] = []  # what is being done, and since when
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Screen:
        """From here on what it does is shown, unless it shall be quiet."""
        self._stderr, sys.stderr = sys.stderr, self._file
        if not self.quiet:
            show = self._show_live if self._file.isatty() else self._show_plain
            self._thread = threading.Thread(target=show, daemon=True, name="screen")
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.rest()
        self._file.flush()
        sys.stderr = self._stderr

    def rest(self) -> None:
        """Shows no more of what is done: the terminal is someone else's now."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2)
            self._thread = None

    def close(self) -> None:
        self._file.close()

    def say(self, text: str) -> None:
        """A line that stays, unless it shall be quiet."""
        if not self.quiet:
            self.tell(text)

    def tell(self, text: str) -> None:
        """A line that stays, in any case."""
        # While the live line is drawn, sys.stderr puts lines above it.
        stream = sys.stderr if self._thread is not None else self._file
        print(f"embedbeam: {text}", file=stream, flush=True)

    @contextlib.contextmanager
    def doing(self, step: Step) -> Iterator[None]:
        """Says what is being done, or in the step's own words how far it is; several may be at once."""
        one = (step, time.monotonic())
        self._steps.append(one)
        try:
            yield
        finally:
            self._steps.remove(one)

    @contextlib.contextmanager
    def telling(self, first: str) -> Iterator[Told]:
        """Says what is being done: at first this, then what the function that it gives is told."""
        now: Step = first

        def tell(step: Step) -> None:
            nonlocal now
            now = step

        with self.doing(lambda: now if isinstance(now, str) else now()):
            yield tell

    def line(self) -> str:
        """What the live line says now."""
        steps = self._steps.copy()
        for step, _ in steps:
            if callable(step):
                return step()
        if not steps:
            return "starting"
        waited = time.monotonic() - min(since for _, since in steps)
        return f"{', '.join(str(step) for step in dict(steps))} ({duration(waited)})"

    def _show_plain(self) -> None:
        told: dict[tuple[Step, float], float] = {}  # when each was
        while not self._stop.wait(min(1.0, _PLAIN_SECONDS)):
            now = time.monotonic()
            for step, since in self._steps.copy():
                one = (step, since)
                if callable(step) and now - told.get(one, since) >= _PLAIN_SECONDS:
                    told[one] = now
                    self.tell(step())
                elif not callable(step) and now - since >= _LONG_SECONDS and one not in told:
                    told[one] = now
                    self.tell(f"still {step}")

    def _show_live(self) -> None:
        if self._stop.wait(0.1):  # what takes no time needs no line
            return
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        def words() -> Any:
            return Text(self.line(), no_wrap=True, overflow="ellipsis")

        spinner, console = Spinner("dots", text=words()), Console(file=self._file)
        # Drawn by this thread alone: two would draw over each other, the older line last.
        with Live(
            spinner, console=console, transient=True, redirect_stdout=False, auto_refresh=False
        ) as live:
            while not self._stop.wait(_LIVE_SECONDS):
                spinner.update(text=words())
                live.refresh()
