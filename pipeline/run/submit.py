"""One submission of the job: the pipeline built, sent to its runner, and watched to its end."""

from __future__ import annotations

import dataclasses
import logging

import apache_beam as beam

from pipeline.build import PipelineConfig, build_pipeline
from pipeline.cluster import job_server, remote
from pipeline.cluster.cluster import Cluster
from pipeline.cluster.failures import plain_error
from pipeline.job import Job, fingerprint_key, modality_of
from pipeline.options.options import Options
from pipeline.plan.plan import read_options
from transforms.errors import EmbedbeamError, JobFailed
from transforms.output.reader import row_schema
from transforms.steps.chain import EmbedBlocks
from transforms.steps.config import EmbedConfig
from transforms.steps.encoder import SharedEncoder
from transforms.steps.read import ReadConfig
from transforms.steps.write import WriteConfig
from transforms.storage.files import full_path

_LOG = logging.getLogger(__name__)


def pipeline_config(options: Options, job: Job, encoder: SharedEncoder) -> PipelineConfig:
    """What each step of the pipeline is told."""
    schema, of = row_schema(dataclasses.asdict(job)), modality_of(job)
    # Workers run in folders of their own.
    output = full_path(options.output)
    return PipelineConfig(
        read=ReadConfig(
            options=dataclasses.replace(read_options(job, of), kept=schema.kept),
            skip_bad_files=options.skip_bad_files,
            output=output,
            job=job.identity,
            fingerprint_key=fingerprint_key(job),
            modality=of,
        ),
        embed=EmbedBlocks(
            encoder,
            EmbedConfig(
                mode=job.long_documents,
                overlap=job.chunk_overlap,
                max_tokens=job.max_tokens,
                batch_tokens=job.batch_tokens,
                vector_dtype=job.vector_dtype,
                keep_payload=job.keep_text,
                window_chunks=job.window_chunks,
                trace=options.trace,
            ),
        ),
        write=WriteConfig(
            output=output,
            job=job.identity,
            format=job.output_format,
            schema=schema,
            metadata={
                "embedbeam.version": job.embedbeam,
                "embedbeam.model": job.model,
                "embedbeam.model_digest": job.model_digest,
                "embedbeam.dim": str(job.dim),
                "embedbeam.dtype": job.vector_dtype,
            },
            gzip=job.tfrecord_gzip,
            trace=options.trace,
        ),
    )


def submit(options: Options, job: Job, encoder: SharedEncoder, cluster: Cluster) -> str | None:
    """Runs the pipeline to its end; on a runner that nobody waits for, sends it off.

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
            build_pipeline(pipeline, pipeline_config(options, job, encoder))
            current.before_submit()
            current.result = pipeline.run()
            if not cluster.waits:
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
