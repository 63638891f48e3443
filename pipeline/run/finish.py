"""After the run: the books are balanced, the manifest is written, and _SUCCESS last of all."""

from __future__ import annotations

import collections
import dataclasses
import json
import platform
import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pipeline.job import Job, row_schema
from pipeline.options.options import most_dead_letters
from transforms.elements import Shard, ShardReceipt
from transforms.errors import BadFileError, JobFailed, LedgerError
from transforms.output import layout
from transforms.output.folder import Folder


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a job made; also manifest.json.

    Attributes:
      output: the folder.
      documents: read; each is a row (or rows, where rows are chunks) or a dead letter.
      dead_letters: by reason.
      tokens, tokens_dropped: of the embedded documents; None where the model cannot count.
      wall_seconds: of the run that finished the job; earlier, interrupted ones not counted.
      feature_spec: how to parse TFRecord output; None for Parquet.
    """

    output: str
    options: Mapping[str, Any]
    model: str
    model_digest: str
    dim: int
    dtype: str
    documents: int
    rows: int
    dead_letters: Mapping[str, int]
    tokens: int | None
    tokens_dropped: int | None
    shards: int
    parts: int
    output_bytes: int
    wall_seconds: float
    device: str
    host: str
    finished: str
    versions: Mapping[str, str]
    feature_spec: Mapping[str, Any] | None = None

    def to_json(self) -> bytes:
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False).encode(
            "utf-8", "backslashreplace"
        )


def read_receipts(folder: Folder) -> list[ShardReceipt]:
    """All receipts, in order of shard id."""
    return read_all(folder, sorted(name for name in folder.names(layout.RECEIPTS) if name.endswith(".json")))


def read_all(folder: Folder, names: Sequence[str]) -> list[ShardReceipt]:
    """The receipts of these names, in their order."""
    count = 16 if folder.local else 64
    size = 1 + len(names) // (4 * count)  # handing a single name to a thread costs more than a local read
    blocks = [names[i : i + size] for i in range(0, len(names), size)]
    with ThreadPoolExecutor(count) as threads:
        read = threads.map(lambda block: [read_receipt(folder, name) for name in block], blocks)
        return [receipt for block in read for receipt in block]


def read_receipt(folder: Folder, name: str) -> ShardReceipt:
    data = folder.read(f"{layout.RECEIPTS}/{name}")
    try:
        return ShardReceipt(**json.loads(data or b""))
    except (ValueError, TypeError) as e:
        raise LedgerError(
            f"{folder.join(layout.RECEIPTS)}/{name}: not a receipt ({e}); delete it and run the job again"
        ) from e


def read_failures(folder: Folder) -> list[dict[str, Any]]:
    """Shards whose files could not be read, in order of source."""
    found = [folder.read(f"{layout.FAILURES}/{name}") for name in sorted(folder.names(layout.FAILURES))]
    return sorted((json.loads(data) for data in found if data), key=lambda failure: failure["source"])


def failure_text(failure: Mapping[str, Any]) -> str:
    """What is wrong with a shard's file, in the words of the error that it raised."""
    return str(BadFileError(failure["source"], failure["position"], failure["reason"]))


def total(values: Sequence[int | None]) -> int | None:
    """A sum that is unknown where one of its parts is."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def by_reason(receipts: Sequence[ShardReceipt]) -> dict[str, int]:
    """Dead letters by reason, the most common first."""
    reasons: collections.Counter[str] = collections.Counter()
    for receipt in receipts:
        reasons.update(receipt.dead_letters)
    return dict(reasons.most_common())


def balance(folder: Folder, shards: Sequence[Shard], receipts: Sequence[ShardReceipt]) -> None:
    """Checks that every shard is committed once, and that its documents are rows or dead letters.

    Raises:
      JobFailed: files could not be read; names them.
      LedgerError: anything else is missing.
    """
    failures = read_failures(folder)
    if failures:
        listed = "\n".join(f"  {failure_text(failure)}" for failure in failures[:20])
        left = len(failures) - 20
        more = f"\n  and {left} more" if left > 0 else ""
        raise JobFailed(
            f"{len(failures)} of {len(shards)} shards failed on bad files; {len(receipts)} are committed. "
            "Mend the files and use a new output folder (or --overwrite), or pass --skip-bad-files:\n"
            f"{listed}{more}"
        )
    planned, committed = {s.shard_id for s in shards}, {r.shard_id for r in receipts}
    if planned != committed:
        raise LedgerError(
            f"{len(planned - committed)} shards of the plan have no receipt, and {len(committed - planned)} "
            f"receipts have no shard, e.g. {sorted(planned ^ committed)[0]}; run the same command again"
        )
    sizes = folder.names()
    for receipt in receipts:
        dead = sum(receipt.dead_letters.values())
        if receipt.rows + dead < receipt.documents:  # more rows than documents where a row is a chunk
            raise LedgerError(
                f"shard {receipt.shard_id}: {receipt.documents} documents read, {receipt.rows} rows and "
                f"{dead} dead letters written"
            )
        if receipt.part is not None and sizes.get(receipt.part) != receipt.part_bytes:
            found = "is gone" if receipt.part not in sizes else f"has {sizes[receipt.part]} bytes"
            raise LedgerError(
                f"{folder.join(receipt.part)} {found}, its receipt says {receipt.part_bytes} bytes; delete "
                f"{folder.join(layout.receipt(receipt.shard_id))} and run the same command again"
            )


def check_dead_letters(receipts: Sequence[ShardReceipt], limit: str, output: str) -> None:
    """Raises JobFailed if there are more dead letters than the limit allows."""
    documents, reasons = sum(r.documents for r in receipts), by_reason(receipts)
    dead, most = sum(reasons.values()), most_dead_letters(limit, documents)
    if dead > most:
        common = ", ".join(f"{reason} ({count})" for reason, count in list(reasons.items())[:3])
        raise JobFailed(
            f"{dead} of {documents} documents are dead letters, more than --max-dead-letters {limit} allows "
            f"({most}). Most common: {common}. They lie in {output}/{layout.DEAD_LETTERS}/; all shards are "
            "committed: the same command with a higher limit ends at once"
        )


def make_manifest(
    job: Job, receipts: Sequence[ShardReceipt], *, output: str, wall_seconds: float, device: str
) -> Manifest:
    spec = None
    if job.output_format == "tfrecord":
        from transforms.output.sinks.tfrecord import feature_spec

        spec = feature_spec(row_schema(job))
    names = ("embedbeam", "apache-beam", "tensorflow", "tensorflow-text", "tensorflow-hub", "pyarrow")
    return Manifest(
        output=output,
        options={
            k: v for k, v in dataclasses.asdict(job).items() if k not in ("model", "model_digest", "dim")
        },
        model=job.model,
        model_digest=job.model_digest,
        dim=job.dim,
        dtype=job.vector_dtype,
        documents=sum(r.documents for r in receipts),
        rows=sum(r.rows for r in receipts),
        dead_letters=by_reason(receipts),
        tokens=total([r.tokens for r in receipts]),
        tokens_dropped=total([r.tokens_dropped for r in receipts]),
        shards=len(receipts),
        parts=sum(r.part is not None for r in receipts),
        output_bytes=sum(r.part_bytes for r in receipts),
        wall_seconds=round(wall_seconds, 3),
        device=device,
        host=socket.gethostname(),
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        versions={"python": platform.python_version()} | {name: installed(name) for name in names},
        feature_spec=spec,
    )


def installed(name: str) -> str:
    """Version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def read_manifest(folder: Folder) -> Manifest | None:
    """The manifest; None if there is none that can be read."""
    try:
        return Manifest(**json.loads(folder.read(layout.MANIFEST) or b""))
    except (ValueError, TypeError):
        return None
