"""The experiment: trials of mini-batches and threads, in turn, until the time is over."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from pipeline.options.options import Options
from pipeline.run.screen import Screen, duration
from pipeline.tune import search
from pipeline.tune.process import Loaded, RanOut, TooSlow, TrialProcess, free_bytes
from pipeline.tune.search import Setting, Trial, Tried
from transforms.encoder.policy import Threads
from transforms.errors import JobFailed

# About so many trials fit into the time: a dozen settings, three or four times each.
_TRIALS = 40
_LEAST_SECONDS, _MOST_SECONDS = 1.0, 15.0
_FIRST_DOCUMENTS = 64  # a short trial tells how large the sample is to be
_MOST_ROUNDS = 6


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was found.

    Attributes:
      loaded: model and device.
      documents, tokens: of the sample.
      tried: all settings, in the order in which they were first tried.
      usual: what a job takes that knows nothing better.
      best: the winner; None where the trials cannot tell.
      reason: why there is none.
    """

    loaded: Loaded
    documents: int
    tokens: int
    tried: tuple[Tried, ...]
    usual: Setting
    best: Tried | None
    reason: str = ""


class _Over(Exception):
    """The time is over."""


class Tuning:
    """One experiment; `run` does it, and the live line says how far it is."""

    def __init__(self, options: Options, minutes: float, screen: Screen):
        self._options, self._screen = options, screen
        self._seconds = 60 * minutes
        self._until = time.monotonic() + self._seconds
        self._processes: dict[int, TrialProcess] = {}
        self._tried: dict[Setting, Tried] = {}
        self._documents, self._peak = _FIRST_DOCUMENTS, 0
        self._doing = "loading the model"

    def run(self) -> Outcome:
        """Tries settings until the time is over.

        Raises:
          UsageError: the model or the input cannot be used.
          JobFailed: not even a first trial came to its end.
        """
        try:
            with self._screen.doing(self._line):
                return self._run()
        finally:
            for process in self._processes.values():
                process.end()

    def _run(self) -> Outcome:
        try:
            loaded = self._start(1)
            usual = Setting(loaded.batch_tokens, loaded.in_flight, int(loaded.device == "CPU"))
            self._processes[usual.intra_op] = self._processes.pop(1)  # on a GPU it has no say
            self._doing = "trying how fast the model is"
            small = dataclasses.replace(usual, batch_tokens=max(1, usual.batch_tokens // 8))
            first: Trial = self._ask(usual.intra_op, ("trial", small))
            tokens = self._size_sample(first, usual)
        except TooSlow as e:
            raise JobFailed(
                f"the model was not loaded and tried once in {duration(self._seconds)}; give more --minutes"
            ) from e
        except RanOut as e:
            raise JobFailed("memory ran out in a first trial, of the smallest mini-batches") from e
        outcome = Outcome(loaded, self._documents, tokens, (), usual, None)
        if not search.is_large_enough(usual.batch_tokens, tokens, usual.in_flight):
            needed = search.MINI_BATCHES * usual.in_flight * usual.batch_tokens
            reason = (
                f"the input has about {tokens:,} tokens in {self._documents:,} documents, too few to tell: "
                f"{needed:,} are needed"
            )
            return dataclasses.replace(outcome, reason=reason)
        try:
            self._sweep(loaded, usual, tokens)
            self._repeat()
        except _Over:
            pass
        best = search.winner(self._tried.values(), usual)
        short = f"{duration(self._seconds)} were too short to try enough of them twice; give more --minutes"
        reason = "" if best else short
        return dataclasses.replace(outcome, tried=tuple(self._tried.values()), best=best, reason=reason)

    def _size_sample(self, first: Trial, usual: Setting) -> int:
        """Makes the sample as large as a trial has time for; returns about how many tokens it has."""
        seconds = min(max(_LEAST_SECONDS, self._seconds / _TRIALS), _MOST_SECONDS)
        least = 2.2 * search.MINI_BATCHES * usual.in_flight * usual.batch_tokens
        each = first.tokens / first.documents
        wanted = max(first.tokens_per_second * seconds, least) / max(each, 1e-9)
        self._doing = "reading a sample"
        self._documents = self._ask(usual.intra_op, ("sample", round(wanted)))
        return round(each * self._documents)

    def _sweep(self, loaded: Loaded, usual: Setting, tokens: int) -> None:
        """Every budget with the usual threads, then other threads around the best of them."""
        swept: list[Tried] = []
        for budget in search.budgets(usual.batch_tokens, tokens, usual.in_flight):
            if not search.falls(swept):
                swept.append(self._try(dataclasses.replace(usual, batch_tokens=budget)))
        near = search.around(swept)
        for threads in search.threads(loaded.device, loaded.cores):
            for budget in near:
                if budget in search.budgets(usual.batch_tokens, tokens, threads.in_flight):
                    self._try(_setting(budget, threads))

    def _repeat(self) -> None:
        for number in range(1, _MOST_ROUNDS):
            for one in search.again(self._tried.values(), number):
                self._try(one.setting)

    def _try(self, setting: Setting) -> Tried:
        """One more trial of a setting.

        Raises:
          _Over: there is no time for it.
        """
        one = self._tried.setdefault(setting, Tried(setting))
        expected = one.of("seconds") if one.trials else 0.0
        if time.monotonic() + expected > self._until:
            raise _Over
        self._doing = f"{setting.batch_tokens:,} tokens, {setting.in_flight} in flight"
        self._doing += f", {setting.intra_op} threads each" if setting.intra_op > 1 else ""
        try:
            if setting.intra_op not in self._processes:
                self._start(setting.intra_op)
            trial: Trial = self._ask(setting.intra_op, ("trial", setting))
        except TooSlow:
            self._processes.pop(setting.intra_op, None)
            raise _Over from None
        except RanOut:
            self._processes.pop(setting.intra_op, None)
            one.why = "out of memory"
            return one
        one.trials.append(trial)
        self._peak = max(self._peak, trial.peak_bytes)
        if trial.ran_out:
            one.why = "out of memory"
        return one

    def _start(self, intra_op: int) -> Loaded:
        """A process with so many threads for an op, its model loaded and the sample read."""
        if free_bytes() < 1.5 * self._peak:
            for other in list(self._processes):
                self._processes.pop(other).end()
        process = self._processes[intra_op] = TrialProcess(self._options, intra_op)
        loaded: Loaded = process.answer(self._until)
        process.ask(("sample", self._documents), self._until)
        return loaded

    def _ask(self, intra_op: int, question: Any) -> Any:
        return self._processes[intra_op].ask(question, self._until)

    def _line(self) -> str:
        left = duration(max(0.0, self._until - time.monotonic()))
        trials = sum(len(one.trials) for one in list(self._tried.values()))
        best = max(list(self._tried.values()), key=lambda one: one.rate, default=None)
        words = f"tuning: {self._doing}; {trials} trials, at most {left} left"
        if best is None or not best.trials:
            return words
        return f"{words}; best so far {best.rate:,.0f} tokens/s with {best.setting.batch_tokens:,} tokens"


def _setting(budget: int, threads: Threads) -> Setting:
    return Setting(budget, threads.in_flight, threads.intra_op)


def record_of(outcome: Outcome) -> dict[str, Any]:
    """An outcome as `--json` has it; memory in bytes, latencies in seconds."""
    rows = []
    for one in outcome.tried:
        row: dict[str, Any] = dataclasses.asdict(one.setting) | {"repeats": len(one.trials)}
        if one.trials:
            first, third = one.quartiles
            row |= {
                "tokens_per_second": round(one.rate, 1),
                "first_quartile": round(first, 1),
                "third_quartile": round(third, 1),
                "documents_per_second": round(one.of("documents_per_second"), 2),
                "latency": round(one.of("median"), 6),
                "latency_p95": round(one.of("p95"), 6),
                # Memory that was once taken is not given back: the first trial tells best.
                "peak_bytes": one.trials[0].peak_bytes,
                "waited": round(one.of("waited"), 4),
            }
        rows.append(row | {"stopped": one.why or None})
    loaded = outcome.loaded
    return {
        "model_digest": loaded.digest,
        "device": loaded.name,
        "cores": loaded.cores,
        "documents": outcome.documents,
        "tokens": outcome.tokens,
        "usual": dataclasses.asdict(outcome.usual),
        "trials": rows,
        "best": dataclasses.asdict(outcome.best.setting) if outcome.best else None,
        "reason": outcome.reason or None,
    }
