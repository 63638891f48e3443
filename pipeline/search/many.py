"""Many questions at once: a scan of the part files, whose results are merged into one file of Parquet."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.search import target
from pipeline.search.exact import QUESTIONS, Best, nearest, parts_of
from pipeline.search.hits import take
from pipeline.search.index import Index, index_of
from pipeline.search.queries import Queries
from pipeline.search.where import condition
from transforms.errors import UsageError
from transforms.output.folder import Folder
from transforms.output.pending import committing
from transforms.output.reader import Output

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.scan.work import Results

FILE = "nearest.parquet"


@dataclasses.dataclass(frozen=True)
class Nearest:
    """A scan: of each question the nearest rows of a part. Results: a row a question, in their order.

    Places are counted from the part's first row: which parts lie before it, the one who merges knows.

    Attributes:
      queries: the questions.
      k: how many rows of each part.
      where: a condition on rows, in SQL.
    """

    queries: Queries
    k: int
    metric: str
    where: str | None
    name: str

    @property
    def choices(self) -> Mapping[str, Any]:
        return dataclasses.asdict(self)

    @property
    def schema(self) -> pa.Schema:
        import pyarrow as pa

        lists = {"scores": pa.list_(pa.float32(), self.k), "places": pa.list_(pa.int64(), self.k)}
        return pa.schema([pa.field(name, kind) for name, kind in lists.items()])

    def part(self, output: Output, name: str) -> Iterator[pa.RecordBatch]:
        """The part is read again for each block of questions; what multiplies takes far longer."""
        import pyarrow as pa

        [part] = [one._replace(first=0) for one in parts_of(output) if one.name == name]
        keep = None if self.where is None else functools.cache(condition(output, self.where))
        for _, vectors in self.queries.blocks(QUESTIONS):
            best = nearest(output, vectors, self.k, metric=self.metric, parts=[part], keep=keep)
            lists = [
                pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), self.k)
                for values in (best.scores, best.places)
            ]
            yield pa.RecordBatch.from_arrays(lists, schema=self.schema)


def by_scan(output: Output, work: Nearest, to: str, args: argparse.Namespace) -> Iterator[Best]:
    """Of each block of questions its nearest rows, after a scan of all parts, here or as a Beam job."""
    from pipeline.scan.run import run_scan

    folder = Folder(to)
    target.begin(folder)
    results = run_scan(output, folder.join(target.PARTS), work, args, reads=(work.queries.path,))
    firsts = [part.first for part in parts_of(output)]

    def parts(group: int) -> Iterator[Best]:
        for name, first in zip(results.parts, firsts, strict=True):
            yield _read(results, name, group, k=work.k, first=first)

    # A row group for each block of questions; whoever reads knows how many there are.
    def best(group: int) -> Best:
        return functools.reduce(lambda one, other: Best.of((one, other)), parts(group))

    return map(best, itertools.count())


def _read(results: Results, name: str, group: int, *, k: int, first: int) -> Best:
    best = Best(0, k)
    blocks = list(results.part(name, row_groups=[group]))
    for what in ("scores", "places"):
        flat = [block.column(what).flatten().to_numpy() for block in blocks]
        setattr(best, what, np.concatenate(flat).reshape(-1, k))
    best.places = np.where(best.places < 0, best.places, best.places + first)
    return best


def answer(
    output: Output,
    find: Callable[[], Queries],
    to: str,
    args: argparse.Namespace,
    *,
    name: str,
    own: bool = False,
) -> dict[str, Any]:
    """Writes the nearest rows of all questions to a file; returns the command's record.

    Args:
      find: gives the questions; it may make what lies in `target.QUERIES` of the folder.
      to: the folder.
      args: with the arguments of `add_search` and `add_scan`.
      name: of the command.
      own: whether the questions are the output's own rows, which are not to find themselves.
    """
    if args.filter is not None:
        condition(output, args.filter)  # a mistake in it is told before anything is embedded
    if args.runner != "DirectRunner" and (args.index or args.index_folder is not None):
        if own:
            raise UsageError("--runner: --index answers here; leave one of the two out", argument="runner")
        args.screen.say("--index answers here: --runner does no more than embed questions that are text")
    index = index_of(output, args)
    with target.held(Folder(to)):
        return _answer(output, find(), to, args, name=name, own=own, index=index)


def _answer(
    output: Output,
    queries: Queries,
    to: str,
    args: argparse.Namespace,
    *,
    name: str,
    own: bool,
    index: Index | None,
) -> dict[str, Any]:
    k = args.k + own
    if index is None:
        work = Nearest(queries, k, args.metric, args.filter, name)
        found = by_scan(output, work, to, args)
    else:
        found = (index.nearest(vectors, k) for _, vectors in queries.blocks(QUESTIONS))
    if own:
        firsts = itertools.count(0, QUESTIONS)
        found = (
            best.without(_places(best, first), args.k) for first, best in zip(firsts, found, strict=False)
        )
    about = {"k": args.k, "metric": args.metric, "filter": args.filter, "index": index is not None}
    done = 0

    def seen(questions: int) -> None:
        nonlocal done
        done += questions

    with args.screen.doing(lambda: f"{name}: {done:,} questions answered"):
        count, rows = _write(output, queries, found, to, about, seen, own=own)
    return {
        "output": output.folder.path,
        "to": Folder(to).join(FILE),
        "questions": count,
        "rows": rows,
    } | about


def _places(best: Best, first: int) -> np.ndarray:
    return np.arange(first, first + len(best.places))[:, np.newaxis]


def _write(
    output: Output,
    queries: Queries,
    found: Iterable[Best],
    to: str,
    about: Mapping[str, Any],
    seen: Callable[[int], None],
    *,
    own: bool,
) -> tuple[int, int]:
    """Writes query_id, rank, doc_id and score, in the order of the questions.

    Of chunks their numbers as well: of those found, and of those that ask (`own`).

    Returns:
      How many questions and rows there were.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder, count, rows = Folder(to), 0, 0
    columns = ["doc_id", *(["chunk", "start", "end"] if output.schema.chunks else [])]
    types = [output.arrow.field(name) for name in columns]
    asking = [output.arrow.field("chunk").with_name("query_chunk")] if own and output.schema.chunks else []
    said = {"embedbeam.job": output.plan.job, "embedbeam.search": json.dumps(dict(about))}
    schema = pa.schema(
        [("query_id", pa.string()), *asking, ("rank", pa.int32()), *types, ("score", pa.float32())],
        metadata=said,
    )
    with committing(folder.create(FILE)) as file, pq.ParquetWriter(file, schema) as writer:
        for (ids, _), best in zip(queries.blocks(QUESTIONS), found, strict=False):
            question, rank = np.nonzero(best.places >= 0)
            table = take(output, best.places[question, rank], columns)
            about_asking = [ids]
            if asking:
                chunks = take(output, np.arange(count, count + len(ids)), ["chunk"])
                about_asking += chunks.columns
            asked = [column.take(pa.array(question)) for column in about_asking]
            arrays = [*asked, pa.array(rank + 1, pa.int32()), *table.columns]
            writer.write_table(pa.table([*arrays, pa.array(best.scores[question, rank])], schema=schema))
            count, rows = count + len(ids), rows + len(question)
            seen(len(ids))
    target.end(folder)
    return count, rows


def in_words(record: Mapping[str, Any]) -> str:
    """The record of `answer` in a line."""
    return f"{record['questions']:,} questions, {record['rows']:,} rows: {record['to']}"
