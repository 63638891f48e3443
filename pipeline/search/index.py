"""An index for approximate search: FAISS' inverted lists, whose vectors are 16-bit floats on disk."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.run.output import output_lock
from pipeline.run.screen import Screen, duration
from pipeline.search.exact import Best, blocks_of, nearest, unit
from pipeline.target import check
from transforms.errors import UsageError
from transforms.extras import check_extra
from transforms.output import layout
from transforms.output.folder import Folder, to_json
from transforms.output.ledger import contents
from transforms.output.pending import committing
from transforms.output.reader import Output
from transforms.output.sample import sample_rows
from transforms.storage.files import open_read

_FILE, _RECORD = "vectors.faiss", "index.json"
_SEED = 0
_TRAINED_ON = 40  # rows for each list; FAISS warns below 39
_ASKED = 200  # rows that measure the recall
_WANTED = 0.95  # recall; more lists are looked through until it is reached
_NEAREST = 10


@dataclasses.dataclass(frozen=True)
class IndexRecord:
    """What an index is of, and how good it is.

    Attributes:
      job: identity of the output's job.
      rows, contents: how many rows there were, and a checksum of the part files' checksums.
      metric: that it was built for.
      lists, probes: into how many lists the rows fell, and how many of them a search looks through.
      recall: at 10, against exact search, of `asked` rows of the output that were drawn at random.
      seconds: that building took.
    """

    job: str
    rows: int
    contents: str
    metric: str
    lists: int
    probes: int
    recall: float
    asked: int
    bytes: int
    seconds: float
    faiss: str


@dataclasses.dataclass(frozen=True)
class Index:
    """An index that is ready to be searched."""

    record: IndexRecord
    _faiss: Any

    def nearest(self, questions: np.ndarray, k: int) -> Best:
        """As `exact.nearest`, of most of the nearest rows; scores are those of vectors of 16-bit floats."""
        metric, lists, probes = self.record.metric, self.record.lists, self.record.probes
        best = _search(self._faiss, questions, k, metric, probes)
        while probes < lists and len(short := np.flatnonzero((best.places < 0).any(axis=1))):
            probes = min(2 * probes, lists)  # those that were looked through held fewer than k rows
            more = _search(self._faiss, questions[short], k, metric, probes)
            best.scores[short], best.places[short] = more.scores, more.places
        return best


def index_of(output: Output, args: argparse.Namespace) -> Index | None:
    """The index that the arguments ask for; None where they ask for exact search.

    Raises:
      UsageError: they ask for a filter, too.
    """
    if not args.index and args.index_folder is None:
        return None
    if args.filter is not None:
        raise UsageError(
            "--filter goes with exact search, which reads only row groups where it holds: leave --index out",
            argument="filter",
        )
    return open_index(output, args.screen, metric=args.metric, where=args.index_folder)


def open_index(output: Output, screen: Screen, *, metric: str = "cosine", where: str | None = None) -> Index:
    """The output's index; it is built where there is none, or one of other rows.

    Args:
      where: its folder; None for `_index` in the output.

    Raises:
      UsageError: FAISS is not installed; the folder cannot be one for an index.
    """
    check_extra("search", "faiss", what="--index", argument="index")
    folder = Folder(where) if where is not None else Folder(output.folder.join(layout.INDEX))
    if where is not None:
        check(where, folder=True, flag="--index-folder")
        if folder.read(layout.PLAN) is not None:
            reason = "is the output of a job; choose another folder"
            raise UsageError(f"--index-folder {where}: {reason}", argument="index_folder")
    record = folder.record(_RECORD, IndexRecord)
    rows = contents(output.receipts)
    wanted = {"job": output.plan.job, "rows": output.count, "contents": rows, "metric": metric}
    if record is not None and {name: getattr(record, name) for name in wanted} != wanted:
        screen.say(f"the index in {folder.path} is of {_difference(record, wanted)}: it is built anew")
        record = None
    elif record is not None and folder.names().get(_FILE) != record.bytes:
        screen.say(f"{folder.join(_FILE)}: is gone or not whole: it is built anew")
        record = None
    if record is None:
        with output_lock(folder, "--index-folder"):
            folder.sweep()
            record = _build(output, folder, metric, screen)
        screen.say(
            f"index: recall@{_NEAREST} {record.recall:.3f} against exact search ({record.asked} rows asked), "
            f"{record.rows:,} rows in {record.lists:,} lists of which a search reads {record.probes}, "
            f"{record.bytes / 1e6:,.0f} MB, {duration(record.seconds)}: {folder.path}"
        )
        return Index(record, _read(folder))
    try:
        return Index(record, _read(folder))
    except RuntimeError as e:  # the bytes are as many as they were, and say something else
        screen.say(f"{folder.join(_FILE)}: cannot be read ({str(e).splitlines()[0][:120]}): it is built anew")
        folder.delete(_RECORD)
        return open_index(output, screen, metric=metric, where=where)


def _difference(record: IndexRecord, wanted: dict[str, Any]) -> str:
    if record.job != wanted["job"]:
        return "another job"
    if record.metric != wanted["metric"]:
        return f"metric {record.metric}"
    return "older rows"


def _build(output: Output, folder: Folder, metric: str, screen: Screen) -> IndexRecord:
    """Builds, measures and writes the index.

    In memory are all vectors as 16-bit floats, half of what they take as float32; before that the sample from
    which k-means makes the lists' centres.
    """
    import faiss

    began, rows = time.monotonic(), output.count
    # FAISS' guidelines: 4 to 16 times the square root; of few rows, as many as k-means can be trained for.
    lists = max(1, min(int(4 * rows**0.5), rows // _TRAINED_ON))
    index = faiss.index_factory(output.dim, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.seed, index.cp.spherical = 10, _SEED + 1, metric == "cosine"
    with screen.doing(f"training the index: {lists:,} lists"):
        index.train(_sample(output, lists * _TRAINED_ON, metric))
    done = 0
    with screen.doing(lambda: f"building the index: {done:,} of {rows:,} rows"):
        for places, vectors in blocks_of(output, metric):
            index.add_with_ids(np.ascontiguousarray(vectors), places)
            done += len(places)
    with screen.doing("writing the index"), committing(folder.create(_FILE)) as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))
        folder.delete(_RECORD)  # of another file, if there is one
    del index
    probes, recall, asked = _measure(output, _read(folder), metric, lists, screen)
    record = IndexRecord(
        job=output.plan.job,
        rows=rows,
        contents=contents(output.receipts),
        metric=metric,
        lists=lists,
        probes=probes,
        recall=recall,
        asked=asked,
        bytes=folder.names()[_FILE],
        seconds=round(time.monotonic() - began, 1),
        faiss=faiss.__version__,
    )
    folder.write(_RECORD, to_json(record))
    return record


def _sample(output: Output, count: int, metric: str) -> np.ndarray:
    """Vectors drawn at random, float32 [count, dim]."""
    table = sample_rows(output, count, _SEED, output.vector_columns)
    vectors = output.matrix(table)
    return np.ascontiguousarray(unit(vectors) if metric == "cosine" else vectors, np.float32)


def _measure(output: Output, index: Any, metric: str, lists: int, screen: Screen) -> tuple[int, float, int]:
    """How many lists are to be looked through, the recall that this gives, and of how many questions.

    Questions are rows: every other one says how many lists, and the rest what recall that gives. Each would
    find itself first, so that the k after it are compared.
    """
    questions = _sample(output, 2 * _ASKED, metric)
    k, done = min(_NEAREST + 1, output.count), 0

    def seen(rows: int) -> None:
        nonlocal done
        done += rows

    def recall(of: slice) -> float:
        found = _search(index, questions[of], k, metric, probes).places
        alike = [len(set(a[1:]) & set(b)) for a, b in zip(exact[of].tolist(), found.tolist(), strict=True)]
        return sum(alike) / (len(alike) * (k - 1)) if alike and k > 1 else 1.0

    with screen.doing(lambda: f"measuring the recall: {done:,} of {output.count:,} rows searched exactly"):
        exact = nearest(output, questions, k, metric=metric, seen=seen).places
    probes = 1
    while recall(slice(0, None, 2)) < _WANTED and probes < lists:
        probes = min(2 * probes, lists)
    asked = slice(1, None, 2)
    return probes, round(recall(asked), 4), len(questions[asked])


def _search(index: Any, questions: np.ndarray, k: int, metric: str, probes: int) -> Best:
    import faiss

    asked = np.ascontiguousarray(unit(questions) if metric == "cosine" else questions, np.float32)
    best = Best(len(asked), k)
    scores, places = index.search(asked, k, params=faiss.SearchParametersIVF(nprobe=probes))
    best.scores[:], best.places[:] = np.where(places >= 0, scores, -np.inf), places
    return best


def _read(folder: Folder) -> Any:
    """The index: from a local disk only what is searched is read."""
    import faiss

    if folder.local:
        return faiss.read_index(folder.join(_FILE), faiss.IO_FLAG_MMAP_IFC)
    with open_read(folder.join(_FILE)) as f:
        read: Callable[[int], bytes] = f.read
        return faiss.read_index(faiss.PyCallbackIOReader(read))
