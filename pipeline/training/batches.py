"""`embedbeam.batches`: mini-batches for training, from an output folder, arrays or a generator."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.training import columns as of_block
from pipeline.training.epochs import WINDOW_ROWS, MiniBatches
from pipeline.training.sources import ArraySource, OutputSource, RowSource, Source
from transforms.errors import UsageError
from transforms.extras import check_extra
from transforms.output.reader import Output, open_output

Rows = Callable[[], Iterable[Mapping[str, Any]]]
FRAMEWORKS = ("tf", "torch", "numpy")


def batches(
    source: str | os.PathLike[str] | Output | Mapping[str, Any] | Rows | Any,
    *,
    batch_size: int = 256,
    columns: Sequence[str] | None = None,
    shuffle: bool | int = False,
    seed: int = 0,
    drop_remainder: bool = False,
    balance: str | None = None,
    bucket: str | None = None,
    shard: tuple[int, int] = (0, 1),
    start: int | tuple[int, int] = 0,
    framework: str = "tf",
    partial: bool = False,
) -> Any:
    """Mini-batches: dicts with `embedding` (float32 [n, dim]) and other columns, n of each.

    Each iteration is an epoch. For the same arguments the mini-batches are the same, on any machine.

    >>> data = batches("out", batch_size=256, columns=["module"], shuffle=True)   # doctest: +SKIP
    >>> model.fit(data.map(lambda row: (row["embedding"], row["label"])))          # doctest: +SKIP

    Args:
      source: an output folder, on a local disk or in a store; an array of vectors, or a dict of arrays; or a
        function without arguments that returns an iterator of rows, dicts of values (a generator function).
      batch_size: rows of a mini-batch; the last one of an epoch has what is left.
      columns: those beside `embedding` that are wanted. None: of a folder none, else all.
      shuffle: permute rows anew each epoch. Of a folder the part files are permuted, rows of four at a time
        come in turns, and those of a window are permuted: 65,536 rows, or as many as are told. Arrays are
        permuted as a whole.
      seed: of all that is drawn.
      drop_remainder: leave out a last mini-batch that is not full.
      balance: a column whose values are each as frequent in each mini-batch, but for one row. An epoch has
        as many rows; of frequent values some are left out, of rare ones the same come again, in a shard
        also rows of others. Not with `bucket`. Of a class that a window lacks (65,536 rows, or as many as
        `shuffle` tells) rows come from a reserve, window/classes of each at most, the same in every epoch:
        shuffle data that is sorted by class with a large window.
      bucket: a column of lists; rows with lists of like length share a mini-batch, so that little is padded.
      shard: (index, count) of workers; each row is read by one of them.
      start: the mini-batch, or (epoch, mini-batch), to go on with. What lies before is not decoded, save
        row groups that it shares, parts of TFRecord, and what a generator gives. Keras' `fit` makes all
        epochs as long as its first: give it the rest of an epoch with epochs=1, and the others as
        `start=(epoch + 1, 0)`.
      framework: tf (a `tf.data.Dataset`), torch (an `IterableDataset`, for
        `DataLoader(..., batch_size=None)`), or numpy (an iterable of dicts of arrays).
      partial: also of a job that has not finished.

    Raises:
      UsageError: the source cannot be read so.
    """
    batch_size, seed = _number("batch_size", batch_size, 1), _number("seed", seed, 0)
    shuffle = _window_of(shuffle)
    _check(drop_remainder, framework)
    if balance is not None and bucket is not None:
        raise UsageError(
            "balance and bucket: rows of like length can be of one class alone; give one of them"
        )
    rows = open_rows(source, columns, balance=balance, bucket=bucket, partial=partial)
    made = MiniBatches(
        rows,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        drop_remainder=bool(drop_remainder),
        balance=balance,
        bucket=bucket,
        shard=_shard_of(shard),
        start=_start_of(start),
    )
    if framework != "torch" and made.count is not None and made.start[1] > made.count:
        raise UsageError(
            f"start {start}: an epoch has {made.count:,} mini-batches; is `batch_size` what it was?",
            argument="start",
        )
    if framework == "numpy":
        return made
    if framework == "tf":
        from pipeline.training.tf_dataset import dataset

        return dataset(made, first_row(rows))
    check_extra("torch", "torch", what="PyTorch mini-batches", argument="framework")
    from pipeline.training.torch_dataset import TorchBatches

    return TorchBatches(made)


def _start_of(start: int | tuple[int, int]) -> tuple[int, int]:
    """Epoch and mini-batch."""
    try:
        epoch, batch = map(operator.index, start if isinstance(start, tuple) else (0, start))
    except (TypeError, ValueError):
        epoch = batch = -1
    if epoch < 0 or batch < 0:
        raise UsageError(f"start {start!r}: expected a number from 0, or (epoch, number)", argument="start")
    return epoch, batch


def _number(name: str, value: Any, least: int) -> int:
    """An integer, not below the least."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise UsageError(f"{name} {value!r}: expected a whole number from {least}", argument=name)
    if number < least:
        expected = "expected at least 1" if least else "expected a number from 0"
        raise UsageError(f"{name} {value!r}: {expected}", argument=name)
    return number


def _window_of(shuffle: bool | int) -> int:
    """Rows of a window; 0 keeps their order."""
    if isinstance(shuffle, (bool, np.bool_)):
        return WINDOW_ROWS if shuffle else 0
    try:
        rows = operator.index(shuffle)
    except TypeError:
        rows = -1
    if rows < 0:
        raise UsageError(f"shuffle {shuffle!r}: expected True, False or a number of rows", argument="shuffle")
    return rows


def _shard_of(shard: tuple[int, int]) -> tuple[int, int]:
    """Index and count."""
    try:
        index, count = map(operator.index, shard)
    except (TypeError, ValueError):
        raise UsageError(
            f"shard {shard!r}: expected (index, count) with 0 <= index < count", argument="shard"
        ) from None
    return index, count


def _columns_of(columns: Any) -> list[str] | None:
    """Names, each once."""
    if columns is None:
        return None
    try:
        names = None if isinstance(columns, (str, bytes)) else list(columns)
    except TypeError:
        names = None
    if names is None or not all(isinstance(name, str) for name in names):
        raise UsageError(f"columns {columns!r}: expected a list of names", argument="columns")
    return list(dict.fromkeys(names))


def _check(drop_remainder: bool, framework: str) -> None:
    if not isinstance(drop_remainder, (bool, np.bool_)):
        raise UsageError(
            f"drop_remainder {drop_remainder!r}: expected True or False", argument="drop_remainder"
        )
    if framework not in FRAMEWORKS:
        expected = ", ".join(FRAMEWORKS)
        raise UsageError(f"framework {framework!r}: expected one of {expected}", argument="framework")


def open_rows(
    source: Any,
    columns: Sequence[str] | None,
    *,
    balance: str | None = None,
    bucket: str | None = None,
    partial: bool = False,
) -> Source:
    """The rows that a source names.

    Raises:
      UsageError: it is none, its job has not finished, or a column is missing or of another kind.
    """
    columns = _columns_of(columns)
    asked = list(dict.fromkeys([*(columns or []), *filter(None, [balance, bucket])]))
    rows: Source
    if isinstance(source, (str, os.PathLike, Output)):
        output = source if isinstance(source, Output) else open_output(os.fspath(source))
        if not output.complete and not partial:
            raise UsageError(
                f"{output.folder.path}: the job has not finished; run it again, or give partial=True for the "
                f"{output.count:,} rows that are there"
            )
        rows = OutputSource(output, ["embedding", *asked])
    elif callable(source):
        names = None if columns is None else list(dict.fromkeys(["embedding", *asked]))
        rows = RowSource(source, names)
    elif isinstance(source, Mapping):
        wanted = (
            source if columns is None else list(dict.fromkeys([*(["embedding"] & source.keys()), *asked]))
        )
        if missing := [name for name in [*wanted, *asked] if name not in source]:
            raise UsageError(f"no column {missing[0]!r}; there are {', '.join(map(str, source))}")
        rows = ArraySource({name: source[name] for name in wanted})
    elif hasattr(source, "__array__"):
        rows = ArraySource({"embedding": source})
    else:
        kind = type(source).__name__
        raise UsageError(
            f"{kind}: expected an output folder, arrays, or a function that returns an iterator of rows "
            "(the function, not what it returned: each epoch calls it again)"
        )
    first = first_row(rows)
    for name in filter(None, [balance, bucket]):
        if name not in first:
            raise UsageError(f"no column {name!r}; there are {', '.join(first)}")
    if balance is not None and (of_block.is_list(first[balance]) or getattr(first[balance], "ndim", 1) > 1):
        raise UsageError(f"balance {balance!r}: expected a column of single values, not of lists or vectors")
    if bucket is not None and not of_block.is_list(first[bucket]):
        raise UsageError(f"bucket {bucket!r}: expected a column of lists, whose lengths differ")
    return rows


def first_row(rows: Source) -> of_block.Block:
    """A row of a source, which tells its columns and their types.

    Raises:
      UsageError: there is none.
    """
    for part in range(1 if rows.parts is None else len(rows.parts)):
        for block in rows.read(part, 0):
            if of_block.size(block):
                return of_block.part(block, 0, 1)
    raise UsageError("no rows")
