"""An experiment's winner into the user's cache."""

from __future__ import annotations

import time
from pathlib import Path

from pipeline.tune.tuning import Outcome
from pipeline.version import installed
from transforms.encoder import tuned


def remember(outcome: Outcome) -> Path:
    """Keeps the winner, for `embed`. Returns where it lies."""
    assert outcome.best is not None
    loaded, setting = outcome.loaded, outcome.best.setting
    return tuned.remember(
        tuned.Tuned(
            model_digest=loaded.digest,
            device=loaded.name,
            cores=loaded.cores,
            batch_tokens=setting.batch_tokens,
            in_flight=setting.in_flight,
            intra_op=setting.intra_op,
            tokens_per_second=round(outcome.best.rate, 1),
            date=time.strftime("%Y-%m-%d", time.gmtime()),
            tensorflow=installed("tensorflow"),
        )
    )
