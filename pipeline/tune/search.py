"""Which settings are tried, how often, and which of them is best."""

from __future__ import annotations

import dataclasses
import random
import statistics
from collections.abc import Iterable, Iterator, Sequence

from transforms.encoder.policy import Threads

# A budget is worth a try where the sample makes so many mini-batches of it for each that is in flight.
MINI_BATCHES = 4
# Slower than this share of the best: no larger budget is tried, and the setting is not tried again.
_HOPELESS = 0.85
# As fast as the best, as far as trials can tell.
_ALIKE = 0.98


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Setting:
    """What is tried; as in EmbedConfig and policy.Threads."""

    batch_tokens: int
    in_flight: int
    intra_op: int


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """What came of it.

    Attributes:
      seconds: from the first mini-batch begun to the last one done.
      tokens: that went through the model, as it counts them, or as the budget does.
      documents: of the sample, dead letters included.
      mini_batches: how many there were.
      median, p95: seconds of a mini-batch inside the model.
      waited: share of the time in which the model waited.
      peak_bytes: most memory: of the GPU, or of the process.
      ran_out: whether memory ran out.
    """

    seconds: float
    tokens: int
    documents: int
    mini_batches: int
    median: float
    p95: float
    waited: float
    peak_bytes: int
    ran_out: bool = False

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def documents_per_second(self) -> float:
        return self.documents / self.seconds


@dataclasses.dataclass
class Tried:
    """A setting and its trials.

    Attributes:
      why: why there are no more: "" unless something went wrong.
    """

    setting: Setting
    trials: list[Trial] = dataclasses.field(default_factory=list)
    why: str = ""

    def of(self, name: str) -> float:
        """The median of a number of the trials."""
        return statistics.median(getattr(trial, name) for trial in self.trials)

    @property
    def rate(self) -> float:
        """Tokens a second, in the median; 0 where no trial came to its end."""
        return self.of("tokens_per_second") if self.trials else 0.0

    @property
    def quartiles(self) -> tuple[float, float]:
        """Of tokens a second: the first and the third."""
        rates = [trial.tokens_per_second for trial in self.trials]
        if len(rates) == 1:
            return rates[0], rates[0]
        first, _, third = statistics.quantiles(rates, n=4, method="inclusive")
        return first, third


def budgets(usual: int, tokens: int, in_flight: int) -> list[int]:
    """Token budgets to try, from small to large, doubling: as many as a sample of so many tokens can tell of.

    >>> budgets(1000, 20_000, 2)
    [125, 250, 500, 1000, 2000]
    >>> budgets(1000, 1_500, 2)
    [125]
    """
    most, found = tokens // (MINI_BATCHES * in_flight), [max(1, usual // 8)]
    while 2 * found[-1] <= most:
        found.append(2 * found[-1])
    return found


def is_large_enough(usual: int, tokens: int, in_flight: int) -> bool:
    """Whether a sample can tell of the budget that a job takes anyway."""
    return tokens >= MINI_BATCHES * in_flight * usual


def threads(device: str, cores: int) -> list[Threads]:
    """Other ways to use the cores than the usual one, which is a mini-batch a core.

    >>> threads("CPU", 2)
    [Threads(in_flight=1, intra_op=2), Threads(in_flight=3, intra_op=1)]
    >>> [one.in_flight for one in threads("GPU", 16)]
    [1, 3, 4]
    """
    if device != "CPU":
        return [Threads(count, 0) for count in (1, 3, 4)]
    found = [Threads(max(1, cores // each), each) for each in (2, 4, cores) if 1 < each <= cores]
    return [*dict.fromkeys(found), Threads(cores + max(1, cores // 4), 1)]


def falls(tried: Sequence[Tried]) -> bool:
    """Whether budgets, tried from small to large, are too large by now: memory, or two slow ones in a row."""
    best = max((one.rate for one in tried), default=0.0)
    slow = [one.rate < _HOPELESS * best for one in tried[-2:]]
    return bool(tried) and (bool(tried[-1].why) or (len(slow) == 2 and all(slow)))


def around(tried: Iterable[Tried]) -> list[int]:
    """The best budget, and its neighbours."""
    sound = sorted((one for one in tried if one.trials), key=lambda one: one.setting)
    if not sound:
        return []
    at = max(range(len(sound)), key=lambda i: sound[i].rate)
    return [one.setting.batch_tokens for one in sound[max(0, at - 1) : at + 2]]


def again(tried: Iterable[Tried], seed: int) -> list[Tried]:
    """Those worth another trial, in an order of chance: a machine that drifts drifts for all of them.

    One slow trial says little where others work, too: a setting is left out after two.
    """
    tried = list(tried)
    best = max((one.rate for one in tried if len(one.trials) > 1), default=0.0)
    sound = [one for one in tried if one.trials and not one.why]
    worth = [
        one
        for one in sound
        if len(one.trials) < 2 or max(t.tokens_per_second for t in one.trials) >= _HOPELESS * best
    ]
    return random.Random(seed).sample(worth, len(worth))


def winner(tried: Iterable[Tried], usual: Setting) -> Tried | None:
    """The fastest setting of those that were tried more than once.

    Of those that are as fast it is the usual one, else the one of the smallest mini-batches. None where the
    usual one was not tried often enough to compare, and memory did not run out before.
    """
    tried = list(tried)
    sound = [one for one in tried if len(one.trials) > 1 and not one.why]
    ran_out = [one for one in tried if one.why and one.setting.batch_tokens <= usual.batch_tokens]
    if not ran_out and usual not in [one.setting for one in sound]:
        return None
    best = max((one.rate for one in sound), default=0.0)
    alike: Iterator[Tried] = (one for one in sound if one.rate >= _ALIKE * best)
    return min(alike, key=lambda one: (one.setting != usual, one.setting), default=None)
