"""How sure a figure is: bootstrap intervals, alone and of the difference of two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000


def interval(
    samples: tuple[np.ndarray, ...], statistic: Callable[..., Any], seed: int, *, vectorized: bool
) -> dict[str, float | None]:
    """A statistic of paired samples, and its percentile bootstrap interval (Efron, 1979) by SciPy.

    Args:
      samples: of equal length; the same cases are drawn of each.
      statistic: of the samples; gets `axis` where it is vectorized.

    Returns:
      value, low and high; low and high are None of a single case.
    """
    from scipy.stats import bootstrap

    value = float(statistic(*samples, axis=-1) if vectorized else statistic(*samples))
    if len(samples[0]) < 2:
        return {"value": round(value, 6), "low": None, "high": None}
    found = bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        batch=200,
        vectorized=vectorized,
        paired=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return {"value": round(value, 6), "low": round(float(found.low), 6), "high": round(float(found.high), 6)}


def of_means(values: list[np.ndarray], seed: int) -> dict[str, Any]:
    """Means of one or two outputs' values of the same cases, and of the difference second - first."""
    found: dict[str, Any] = {
        "outputs": [interval((one,), np.mean, seed, vectorized=True) for one in values],
    }
    if len(values) == 2:
        found["difference"] = interval((values[1] - values[0],), np.mean, seed, vectorized=True)
    return found
