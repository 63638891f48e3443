"""Many questions in a file: vectors that are there, or documents that a job embeds."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from pipeline.search import target
from pipeline.search.exact import QUESTIONS
from transforms.errors import LedgerError, UsageError
from transforms.output import layout
from transforms.output.folder import Folder
from transforms.output.ledger import by_reason, contents
from transforms.output.pointer import followed
from transforms.output.reader import Output, open_output
from transforms.storage.files import file_state, full_path, open_read
from transforms.storage.listing import list_files

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_IDS = ("query_id", "doc_id", "id")


@dataclasses.dataclass(frozen=True)
class Queries:
    """Where questions lie as vectors; picklable.

    Attributes:
      path: an output folder, or a Parquet file.
      job: identity of the output's job; None of a file.
      dim: length of their vectors.
      contents: a checksum of the output's rows; size and time of the last change of a file.
    """

    path: str
    job: str | None
    dim: int
    contents: str

    def blocks(self, size: int) -> Iterator[tuple[pa.Array, np.ndarray]]:
        """Ids and vectors, float32 [size, dim]; fewer in the last block."""
        if self.job is not None:
            output = open_output(self.path)
            if queries_of(output) != self:
                raise LedgerError(f"{self.path}: other rows than before; run the same command again")
            rows = (
                (block.column(0), output.matrix(block))
                for block in output.rows(["doc_id", *output.vector_columns])
            )
            yield from _in_blocks(rows, size)
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        with open_read(self.path) as f:
            file = pq.ParquetFile(f)
            name = _id_column(file.schema_arrow)
            columns = ["embedding", *([name] if name else [])]

            def read() -> Iterator[tuple[pa.Array, np.ndarray]]:
                first = 0
                for block in _batches(file, columns, self.path):
                    ids = block.column(name) if name else pa.array(range(first, first + len(block)))
                    yield _as_ids(ids, self.path), self._matrix(block.column("embedding"), first)
                    first += len(block)

            yield from _in_blocks(read(), size)

    def _matrix(self, column: pa.Array, first: int) -> np.ndarray:
        """The vectors of a block, whose first row has this place in the file."""
        import pyarrow.compute as pc

        lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy()
        if (wrong := np.flatnonzero(lengths != self.dim)).size:
            of = int(lengths[wrong[0]])
            found = "no vector (null)" if of < 0 else f"a vector of {of} numbers"
            raise _bad_row(self.path, first + int(wrong[0]), f"{found}; expected {self.dim} numbers")
        numbers = column.flatten().to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore"):
            flat = numbers.astype(np.float32).reshape(len(column), self.dim)
        if (wrong := np.flatnonzero(~np.isfinite(flat).all(axis=1))).size:
            reason = "a vector with NaN, infinity, null or a number too large for float32; expected numbers"
            raise _bad_row(self.path, first + int(wrong[0]), reason)
        return flat


def _bad_row(path: str, place: int, reason: str) -> UsageError:
    return UsageError(f"--queries {path}: row {place + 1}: {reason}", argument="queries")


def _batches(file: pq.ParquetFile, columns: list[str], path: str) -> Iterator[pa.RecordBatch]:
    """Blocks of a file; raises UsageError where one cannot be read, as with a null among fixed lengths."""
    import pyarrow as pa

    try:
        yield from file.iter_batches(columns=columns)
    except pa.ArrowInvalid as e:
        place, reason = 0, str(e).splitlines()[0]
        try:
            for _ in file.iter_batches(batch_size=1, columns=["embedding"]):
                place += 1
        except pa.ArrowInvalid:
            raise _bad_row(path, place, "its vector is null or damaged; expected numbers") from e
        raise UsageError(f"--queries {path}: cannot be read: {reason}", argument="queries") from e


def _as_ids(column: pa.Array, path: str) -> pa.Array:
    """Ids as text; raises UsageError where they cannot be."""
    import pyarrow as pa

    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
        raise UsageError(f"{path}: its ids are {column.type}; expected text or numbers") from e


def _in_blocks(
    rows: Iterable[tuple[pa.Array, np.ndarray]], size: int
) -> Iterator[tuple[pa.Array, np.ndarray]]:
    """The same rows in blocks of this size: what a block finds is then a row group of its own."""
    import pyarrow as pa

    ids: list[pa.Array] = []
    vectors: list[np.ndarray] = []
    count = 0
    for names, some in rows:
        while len(some):
            taken = min(size - count, len(some))
            ids.append(names[:taken])
            vectors.append(some[:taken])
            names, some, count = names[taken:], some[taken:], count + taken
            if count == size:
                yield pa.concat_arrays(ids), np.concatenate(vectors)
                ids, vectors, count = [], [], 0
    if count:
        yield pa.concat_arrays(ids), np.concatenate(vectors)


def find_queries(output: Output, path: str, to: str, args: argparse.Namespace) -> Queries:
    """The questions of a file.

    Args:
      path: a Parquet file with a column `embedding`, the output folder of a job of the same model, or any
        file that `embed` reads, whose documents are embedded into the folder `_queries` of the results.
      to: folder of the results.
      args: of `search`.

    Raises:
      UsageError: they cannot be read, or are another model's.
    """
    with contextlib.suppress(NotADirectoryError):
        if followed(Folder(path)).read(layout.PLAN) is not None:
            return _of_job(output, path)
    dim = _vectors_in(path)
    if dim is not None:
        if dim != output.dim and dim != 0:
            raise UsageError(f"{path}: vectors of {dim} numbers, and {output.folder.path} has {output.dim}")
        vectors = Queries(full_path(path), None, output.dim, str(file_state(path)))
        if not sum(len(ids) for ids, _ in vectors.blocks(QUESTIONS)):  # all of them are looked at once
            raise UsageError(f"--queries {path}: holds no question", argument="queries")
        return vectors
    from pipeline.run.launch import run
    from pipeline.run.progress import Progress
    from pipeline.search.model import question_options

    options = question_options(output, args.screen, model=args.model, prompt=args.prompt)
    folder, documents = Folder(to).join(target.QUERIES), output.plan.head["long_documents"]
    options = dataclasses.replace(
        options,
        input=(path,),
        output=folder,
        text_field=args.text_field,
        id_field=args.id_field,
        long_documents="truncate" if documents == "truncate" else "mean",
        runner=args.runner,
        shared_filesystem=args.shared_filesystem,
        beam_args=tuple(args.beam_args),
        max_dead_letters="100%",
        quiet=True,
    )
    files = [[file.path, file.size, file.mtime] for file in list_files(path)[1]]
    if not files:
        raise UsageError(f"--queries {path}: matches no file; check the path", argument="queries")
    choices = [options.model, options.prompt, options.signature, args.text_field, args.id_field]
    target.begin(Folder(to), [output.plan.job, path, *choices, files])
    args.screen.say(f"embedding the questions of {path}")
    run(options, args.screen, Progress())
    found = open_output(folder)
    refused = by_reason(found.receipts)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in refused.items())
    if found.complete and not found.count:
        Folder(to).delete_folder(target.QUERIES)
        why = f": {reasons}" if reasons else ""
        raise UsageError(
            f"--queries {path}: holds no question that could be embedded{why}", argument="queries"
        )
    if refused:
        args.screen.tell(f"{sum(refused.values()):,} questions have no answer: {reasons}")
    return _of_job(output, folder)


def _of_job(output: Output, path: str) -> Queries:
    """The rows of a finished job as questions."""
    asked = open_output(path)
    if asked.plan.head["model_digest"] != output.plan.head["model_digest"] or asked.dim != output.dim:
        models = [
            f"{one.plan.head['model']} (digest {one.plan.head['model_digest'][:16]}…)"
            for one in (asked, output)
        ]
        raise UsageError(
            f"{path}: vectors of {asked.dim} numbers of {models[0]}, and {output.folder.path} has "
            f"{output.dim} of {models[1]}: they cannot be compared"
        )
    if not asked.complete or not asked.count:
        raise UsageError(f"{path}: no questions, or the job that embedded them has not finished")
    return queries_of(asked)


def queries_of(output: Output) -> Queries:
    """All rows of an output as questions."""
    return Queries(full_path(output.folder.path), output.plan.job, output.dim, contents(output.receipts))


def _id_column(schema: pa.Schema) -> str | None:
    return next((one for one in _IDS if one in schema.names), None)


def _vectors_in(path: str) -> int | None:
    """The length of the vectors in a Parquet file (0: each its own); None where there are none."""
    if not path.endswith(".parquet"):
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_read(path) as f:
            schema = pq.read_schema(f)
    except (OSError, pa.ArrowInvalid) as e:
        raise UsageError(f"--queries {path}: cannot be read: {e}", argument="queries") from e
    if "embedding" not in schema.names:
        return None
    if name := _id_column(schema):
        _as_ids(pa.nulls(0, schema.field(name).type), path)
    kind = schema.field("embedding").type
    fixed = pa.types.is_fixed_size_list(kind)
    if fixed or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        of = kind.value_type
        if pa.types.is_floating(of) or pa.types.is_integer(of):
            return int(kind.list_size) if fixed else 0
    raise UsageError(f"--queries {path}: its column embedding is {kind}; expected lists of numbers")
