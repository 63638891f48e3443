"""What is said at the end of a run."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence

from pipeline.run.finish import Manifest
from pipeline.run.progress import duration
from transforms.counters import COUNTERS
from transforms.encoder.model.handle import redact
from transforms.output import layout
from transforms.output.folder import Folder

_SECRET = re.compile(r"secret|password|token$|key$|credential", re.IGNORECASE)
_SHOW_CURSOR = "\r\x1b[K\x1b[?25h"


def print_summary(manifest: Manifest) -> None:
    """Counts, rates, where the output is, and the line of Python that opens it."""
    dead = sum(manifest.dead_letters.values())
    print(
        f"embedded {manifest.documents - dead:,} of {manifest.documents:,} documents into "
        f"{manifest.rows:,} rows of {manifest.dim} {manifest.dtype} numbers "
        f"({manifest.shards} shards, {manifest.parts} part files)"
    )
    if COUNTERS.shards:
        seconds = max(COUNTERS.run_seconds, 1e-9)
        rates = f"{COUNTERS.documents / seconds:,.1f} documents/s"
        if COUNTERS.tokens:
            rates += f", {COUNTERS.tokens / seconds:,.0f} tokens/s"
        if COUNTERS.model_seconds:  # unknown of workers elsewhere
            rates += f", {min(1.0, COUNTERS.model_seconds / seconds):.0%} of the time in the model"
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


def resume_command(command: Sequence[str]) -> str:
    """The command that goes on with a job: the one that began it, without --overwrite and without secrets.

    >>> resume_command(["embedbeam", "embed", "--overwrite", "--s3_secret_access_key=abc"])
    "embedbeam embed '--s3_secret_access_key=***'"
    """
    shown: list[str] = []
    for argument in command:
        name, equals, value = argument.partition("=")
        if not argument.startswith("-"):
            hidden = bool(shown and shown[-1].startswith("-") and _SECRET.search(shown[-1]))
            shown.append("***" if hidden else redact(argument))
        elif equals:
            shown.append(f"{name}={'***' if _SECRET.search(name) else redact(value)}")
        elif argument != "--overwrite":
            shown.append(argument)
    return shlex.join(shown)


def stopped_text(output: str, command: Sequence[str]) -> str:
    """What Ctrl-C and SIGTERM say: what is committed, and how to go on."""
    folder = Folder(output)
    plan = folder.read(layout.PLAN)
    clean = _SHOW_CURSOR if sys.stderr.isatty() else ""
    if plan is None:
        return f"{clean}embedbeam: stopped before anything was written\n"
    shards, done = max(0, plan.count(b"\n") - 1), len(folder.names(layout.RECEIPTS))
    return (
        f"{clean}embedbeam: stopped; {done} of {shards} shards are committed in {output}. To go on:\n"
        f"  {resume_command(command)}\n"
    )
