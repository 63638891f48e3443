"""Part files of an output as input: a row's text under its id, and where it was read from at first."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from transforms.elements import Slice
from transforms.formats import parquet, tfrecord
from transforms.formats.base import Format, RawBlock, ReadOptions

_ORIGIN = ("source", "position")


def _kind(path: str) -> Format:
    return tfrecord.FORMAT if path.removesuffix(".gz").endswith(".tfrecord") else parquet.FORMAT


def _cut(files: Sequence[Slice], target: int) -> list[list[Slice]]:
    groups = itertools.groupby(files, lambda file: _kind(file.path).name)
    cut = {"parquet": parquet.FORMAT.cut, "tfrecord": tfrecord.FORMAT.cut}
    return [slices for name, some in groups for slices in cut[name](list(some), target)]


def _with_origin(options: ReadOptions) -> ReadOptions:
    kept = (*options.kept, ("source", "string"))  # a TFRecord file does not tell it from bytes
    return dataclasses.replace(options, keep_fields=(*options.keep_fields, *_ORIGIN), kept=kept)


def _read(slice: Slice, options: ReadOptions) -> Iterator[RawBlock]:
    for block in _kind(slice.path).read(slice, _with_origin(options)):
        source, position = (block.columns.pop(name) for name in _ORIGIN)
        if isinstance(source, list):  # of records that are damaged, their place here
            for row in block.bad:
                source[row], position[row] = slice.source, int(block.positions[row])
        yield dataclasses.replace(block, sources=source, positions=np.asarray(position, np.int64))


def _check(slice: Slice, options: ReadOptions) -> None:
    _kind(slice.path).check(slice, _with_origin(options))


FORMAT = Format(
    "rows",
    (),
    _read,
    _check,
    codecs=("", ".gz"),
    aliases=(".parquet", ".tfrecord"),
    cut=_cut,
    cut_codecs=("",),
)
