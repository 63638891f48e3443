"""What is said at the end of a run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from pipeline.options.options import Options
from pipeline.options.secrets import redact_arguments
from pipeline.run.finish import Manifest
from pipeline.run.progress import Progress
from pipeline.run.screen import SHOW_CURSOR, duration
from transforms.output import layout
from transforms.output.folder import Folder


def print_summary(manifest: Manifest, progress: Progress) -> None:
    """Counts, rates, where the output is, and the line of Python that opens it."""
    dead = sum(manifest.dead_letters.values())
    print(
        f"embedded {manifest.documents - dead:,} of {manifest.documents:,} documents into "
        f"{manifest.rows:,} rows of {manifest.dim} {manifest.dtype} numbers "
        f"({manifest.shards} shards, {manifest.parts} part files)"
    )
    if progress.shards:
        seconds = max(progress.run_seconds, 1e-9)
        rates = f"{progress.documents / seconds:,.1f} documents/s"
        if progress.tokens:
            rates += f", {progress.tokens / seconds:,.0f} tokens/s"
        if progress.model_seconds:  # unknown of workers elsewhere
            rates += f", {min(1.0, progress.model_seconds / seconds):.0%} of the time in the model"
        print(f"this run: {duration(manifest.wall_seconds)}, {rates}")
    else:
        print("nothing was left to do: everything is committed")
    if dead:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in manifest.dead_letters.items())
        print(f"dead letters: {dead:,} in {manifest.output}/{layout.DEAD_LETTERS}/: {reasons}")
    if manifest.tokens_dropped:
        tokens = f"{manifest.tokens_dropped:,} of {manifest.tokens:,}"
        print(f"tokens not embedded (past the model's window): {tokens}")
    print(f"output: {manifest.output}")
    print(f"open it: {opening_line(manifest)}")


def sent_text(options: Options, job_id: str) -> str:
    """What to do about a job that nobody waits for."""
    return (
        f"Created job with id: [{job_id}] on {options.runner}; it goes on without this process. How far it "
        f"is: `embedbeam status {options.output}`; once it has ended, `embedbeam finish {options.output}` "
        "balances it and writes _SUCCESS"
    )


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


def resume_command(command: Sequence[str], *, keep_overwrite: bool = False) -> str:
    """The command that goes on with a job: the one that began it, without secrets.

    `--overwrite` is left out of it, unless the earlier job is still there that it shall replace.

    >>> resume_command(["embedbeam", "embed", "--overwrite", "--s3_secret_access_key=abc"])
    "embedbeam embed '--s3_secret_access_key=***'"
    """
    kept = [argument for argument in command if keep_overwrite or argument != "--overwrite"]
    return shlex.join(redact_arguments(kept))


def stopped_text(output: str, command: Sequence[str], *, replaced: str = "") -> str:
    """What Ctrl-C and SIGTERM say: what is committed, and how to go on.

    Args:
      replaced: what has become of an earlier job's output, where the new plan is not written yet
        (--overwrite); else empty.
    """
    folder = Folder(output)
    plan = folder.read(layout.PLAN)
    clean = SHOW_CURSOR.decode() if sys.stderr.isatty() else ""
    resume = resume_command(command, keep_overwrite=bool(replaced))
    if plan is None:
        return f"{clean}embedbeam: stopped before anything was written\n"
    if replaced:
        return (
            f"{clean}embedbeam: stopped before the new plan was written: nothing of it is committed, "
            f"and what the earlier job left in {output} {replaced}. To begin the new job:\n  {resume}\n"
        )
    shards, done = max(0, plan.count(b"\n") - 1), len(folder.shards(layout.RECEIPTS))
    return (
        f"{clean}embedbeam: stopped; {done} of {shards} shards are committed in {output}. To go on:\n"
        f"  {resume}\n"
    )
