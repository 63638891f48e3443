"""One submission of the job: what each step is told, and the pipeline sent to its runner."""

from __future__ import annotations

import dataclasses

from pipeline.build import PipelineConfig, build_pipeline
from pipeline.cluster.cluster import Cluster
from pipeline.cluster.submit import run_pipeline
from pipeline.job import Job, fingerprint_key, modality_of
from pipeline.options.options import Options
from pipeline.plan.plan import read_options
from transforms.output.reader import row_schema
from transforms.steps.chain import EmbedBlocks
from transforms.steps.config import EmbedConfig
from transforms.steps.encoder import SharedEncoder
from transforms.steps.reuse import ReuseConfig
from transforms.steps.shards import ReadConfig
from transforms.steps.write import WriteConfig
from transforms.storage.files import full_path


def pipeline_config(
    options: Options, job: Job, encoder: SharedEncoder, reuse: ReuseConfig | None = None
) -> PipelineConfig:
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
        reuse=reuse,
    )


def submit(config: PipelineConfig, cluster: Cluster) -> str | None:
    """Runs the job to its end; on a runner that nobody waits for, sends it off.

    Returns and raises as `run_pipeline`.
    """
    return run_pipeline(cluster, lambda root: build_pipeline(root, config), wait=cluster.waits)
