"""The other side of TrialProcess: loads the model, then answers ("sample", documents), ("trial", Setting)."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from pipeline.cluster.preflight import prepare
from pipeline.run.loading import load_encoder
from pipeline.run.screen import Screen
from pipeline.tune.process import Loaded
from transforms.encoder import policy
from transforms.encoder.device import available_cores, cpu_name
from transforms.errors import EmbedbeamError, JobFailed


def listen(connection: Connection, questions: SimpleQueue[Any]) -> None:
    """Takes questions, until whoever asks is gone: then nobody waits for what is inside the model."""
    try:
        while True:
            questions.put(connection.recv())
    except (EOFError, OSError):
        os._exit(1)


def answers(questions: SimpleQueue[Any]) -> Any:
    """The answer to each question; the first one brings the options, and loads the model."""
    options, intra_op = questions.get()
    # In this thread, before any other could be the first that needs it: see the pin in pyproject.toml.
    import pyarrow.parquet  # noqa: F401

    prepare(options)  # gives the stores their options
    loaded = load_encoder(options, Screen(quiet=True), intra_op=intra_op)
    yield described(loaded)
    from pipeline.tune.trial import draw_sample, run_trial

    while True:
        kind, what = questions.get()
        if kind == "sample":
            yield draw_sample(options, loaded.modality, what)
        else:
            yield run_trial(options, loaded, what)


def described(loaded: Any) -> Loaded:
    cores, on_cpu = available_cores(), loaded.device == "CPU"
    return Loaded(
        digest=loaded.digest,
        device=loaded.device,
        name=cpu_name() if on_cpu else loaded.device_name,
        cores=cores,
        batch_tokens=policy.default_batch_tokens(loaded.device, loaded.device_memory),
        in_flight=policy.threads(cores=cores, device=loaded.device).in_flight,
    )


def main() -> None:
    connection, questions = Connection(int(sys.argv[1])), SimpleQueue[Any]()
    logging.disable(logging.CRITICAL)
    warnings.filterwarnings("ignore")
    threading.Thread(target=listen, args=[connection, questions], daemon=True).start()
    try:
        for answer in answers(questions):
            connection.send(answer)
    except EmbedbeamError as e:
        connection.send(e)
    except Exception as e:  # the user reads one line of it
        logging.getLogger(__name__).exception("trial")
        connection.send(JobFailed(f"a trial failed: {type(e).__name__}: {e}"))
    os._exit(1)  # an error is the last answer


if __name__ == "__main__":
    main()
