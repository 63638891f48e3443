"""What is said at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.run.progress import Progress
from pipeline.run.screen import duration
from transforms.output import layout
from transforms.output.manifest import Manifest

_SHOWN = 8


def summary(manifest: Manifest, progress: Progress, *, trace: bool = False) -> Iterator[str]:
    """Counts, rates, where the output is, and the line of Python that opens it."""
    dead, forgotten = sum(manifest.dead_letters.values()), manifest.forgotten
    rows = manifest.documents - dead - forgotten - manifest.left_out
    yield (
        f"embedded {rows:,} of {manifest.documents:,} documents into "
        f"{manifest.rows:,} rows of {manifest.dim} {manifest.dtype} numbers "
        f"({manifest.shards} shards, {manifest.parts} part files)"
    )
    if manifest.reused:
        yield f"of these {manifest.reused:,} documents have the vectors of an earlier output"
    if manifest.copied:
        yield f"of these {manifest.copied:,} documents are duplicates, embedded once"
    if manifest.left_out:
        where = f"{manifest.output}/{layout.DUPLICATES}/"
        yield f"left out, since another says the same: {manifest.left_out:,} documents, listed in {where}"
    if manifest.left_out_of_dead:
        yield f"of these {manifest.left_out_of_dead:,} are copies of dead letters: no row says what they say"
    if forgotten:
        yield f"forgotten afterwards: {forgotten:,} documents"
    if progress.shards:
        seconds = max(progress.run_seconds, 1e-9)
        rates = f"{progress.documents / seconds:,.1f} documents/s"
        if progress.tokens:
            rates += f", {progress.tokens / seconds:,.0f} tokens/s"
        if progress.model_seconds:  # unknown of workers elsewhere
            rates += f", {min(1.0, progress.model_seconds / seconds):.0%} of the time in the model"
        if progress.waited is not None:
            rates += f"; the model waited {progress.waited:.1%} of its time"
        yield f"this run: {duration(manifest.wall_seconds)}, {rates}"
    else:
        yield "nothing was left to do: everything is committed"
        if manifest.model_waited:
            yield f"the model waited {manifest.model_waited['share']:.1%} of its time"
    if dead:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in manifest.dead_letters.items())
        yield f"dead letters: {dead:,} in {manifest.output}/{layout.DEAD_LETTERS}/: {reasons}"
    if manifest.skipped:
        common = [f"{what} ({count:,})" for what, count in list(manifest.skipped.items())[:_SHOWN]]
        more = ", ..." if len(manifest.skipped) > _SHOWN else ""
        yield f"skipped, no documents: {sum(manifest.skipped.values()):,} records: {', '.join(common)}{more}"
    if manifest.tokens_dropped:
        tokens = f"{manifest.tokens_dropped:,} of {manifest.tokens:,}"
        yield f"tokens not embedded (past the model's window): {tokens}"
    if trace:
        folder = f"{manifest.output}/{layout.TRACE}"
        retries = f", {progress.retries:,} retries" if progress.retries else ""
        yield (
            f"trace: {progress.mini_batches:,} mini-batches{retries} in {folder}/; plotted by `tensorboard "
            f"--logdir {manifest.output}/{layout.TENSORBOARD}`"
        )
    yield f"output: {manifest.output}"
    yield f"open it: {opening_line(manifest)}"


def opening_line(manifest: Manifest) -> str:
    """One line of Python that opens the output."""
    if manifest.feature_spec is None:
        return f"import pyarrow.parquet as pq; table = pq.read_table({manifest.output!r})"
    gzip = ', compression_type="GZIP"' if manifest.options.get("tfrecord_gzip") else ""
    return (
        "import tensorflow as tf; from pipeline import feature_spec; "
        f"ds = tf.data.TFRecordDataset(tf.io.gfile.glob({manifest.output + '/part-*'!r}){gzip})"
        f".batch(1024).map(lambda x: tf.io.parse_example(x, feature_spec({manifest.output!r})))"
    )
