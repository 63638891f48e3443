"""A pipeline built, sent to its runner, and watched to its end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import apache_beam as beam

from pipeline.cluster import job_server, remote
from pipeline.cluster.cluster import Cluster
from pipeline.cluster.failures import plain_error
from transforms.errors import EmbedbeamError, JobFailed
from transforms.output.pending import unfinished

_LOG = logging.getLogger(__name__)


def run_pipeline(cluster: Cluster, build: Callable[[beam.Pipeline], Any], *, wait: bool) -> str | None:
    """Runs a pipeline to its end, or sends it off.

    Args:
      build: applies the steps to the pipeline's root.
      wait: whether this process stays until the job has ended.

    Returns:
      The id of a job that goes on without this process; None where the job has ended.

    Raises:
      EmbedbeamError: with the first error's own words, however deep in Beam it happened.
    """
    beam_options, runner = cluster.pipeline_options(), cluster.make_runner()
    with remote.loopback(cluster, beam_options), remote.sending(cluster) as current:
        job_server.adopt(runner, current.servers)
        try:
            pipeline = beam.Pipeline(runner=runner, options=beam_options)
            with unfinished(pipeline.local_tempdir):  # Beam makes it at once, and deletes it after the run
                build(pipeline)
                current.before_submit()
                current.result = pipeline.run()
            if not wait:
                # A launcher that makes a template has no job, and neither has a dry run.
                sent = getattr(current.result, "has_job", False)
                return current.result.job_id() if sent else "(a template, which makes jobs)"
            state = current.result.wait_until_finish()
        except KeyboardInterrupt:  # in somebody's own program; the command line has a handler
            if current.remote:
                current.cancel()
            raise
        except EmbedbeamError as e:
            e.__notes__ = []  # the error itself has come: its fields need no other way
            raise
        except Exception as e:
            _LOG.info("the pipeline failed", exc_info=True)
            raise plain_error(e, cluster) from e
    if state not in ("DONE", None):
        raise JobFailed(f"job {current.name} ended as {state}: run the same command again to go on")
    return None
