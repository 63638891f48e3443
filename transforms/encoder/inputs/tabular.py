"""Models that take rows: a tensor for each column, or one matrix of them all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from transforms.encoder.config import ModelConfig
from transforms.encoder.messages import model_error
from transforms.encoder.signature import described, tensors
from transforms.errors import UsageError
from transforms.modality.cells import arrow_kind
from transforms.modality.tabular import Tabular
from transforms.texts import Refusal


@dataclasses.dataclass(frozen=True)
class _Rows(Sequence[Any]):
    """Some rows, feature by feature: arrays [rows]."""

    columns: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, at: Any) -> _Rows:
        rows = at if isinstance(at, slice) else slice(at, at + 1)
        return _Rows({name: values[rows] for name, values in self.columns.items()})

    def __iter__(self) -> Iterator[_Rows]:
        return (self[row] for row in range(len(self)))


class TabularInput:
    """A tensor [n] or [n, 1] for each feature, or floats [n, features]; see ModelInput."""

    window = None
    can_count = False
    prepares = True  # strings become Python's

    def __init__(self, tf: Any, loaded: Any, function: Any, signature: str, config: ModelConfig):
        """Checks what the function takes, and which columns that is.

        Raises:
          UsageError: it takes no rows, or `column` names what it does not take.
        """
        specs, self._by_name = tensors(tf, function)
        self.described = described(specs)
        takes = f"signature {signature} takes ({self.described or 'nothing'})"
        given = [_pair(text) for text in config.column]
        self._tf, self._function, self._specs, self._matrix = tf, function, specs, ""
        if len(specs) == 1 and (width := _width(next(iter(specs.values())))):
            self._matrix = next(iter(specs))
            columns = _of_matrix(specs[self._matrix], width, given, takes)
        elif specs and all(_is_cell(spec) for spec in specs.values()):
            columns = _of_features(specs, given, takes)
        else:
            reason = "expected a tensor [n] or [n, 1] for each feature, or one of floats [n, features]"
            advice = "choose another `signature`, or the `modality` that fits"
            raise model_error(config.handle, f"{takes}, {reason}: {advice}")
        self.modality = Tabular(columns, config.nulls)
        if given:
            self.described += f"; {self.modality.described}"
        self.sample = {
            feature: "" if kind == "string" else arrow_kind(kind).to_pandas_dtype()(0).item()
            for _, feature, kind in columns
        }

    def estimate(self, payloads: Sequence[Any]) -> np.ndarray:
        return self.modality.estimate(payloads)

    def count(self, payloads: Sequence[Any]) -> np.ndarray:
        raise NotImplementedError("rows have no tokens")

    def prepare(self, payloads: Sequence[Any]) -> tuple[Sequence[Any], dict[int, Refusal]]:
        """Columns as NumPy has them, of a struct array or of dicts."""
        rows = payloads if isinstance(payloads, pa.Array) else pa.array(payloads, self.modality.type)
        names = [feature for _, feature, _ in self.modality.columns]
        arrays = (column.to_numpy(zero_copy_only=False) for column in rows.flatten())
        return _Rows(dict(zip(names, arrays, strict=True))), {}

    def call(self, prepared: Sequence[Any]) -> tuple[Any, Any]:
        rows = prepared if isinstance(prepared, _Rows) else _joined(prepared)
        given = {}
        for name, spec in self._specs.items():
            values = np.stack([*rows.columns.values()], axis=1) if self._matrix else rows.columns[name]
            shape = values.shape if self._matrix else [len(rows), *[1] * (spec.shape.rank - 1)]
            given[name] = self._tf.constant(values, spec.dtype, shape)
        return self._function(**given) if self._by_name else self._function(*given.values()), None


def _joined(some: Sequence[_Rows]) -> _Rows:
    return _Rows({name: np.concatenate([rows.columns[name] for rows in some]) for name in some[0].columns})


def _pair(text: str) -> tuple[str, str]:
    """A column and the feature that it is, of NAME=FEATURE or NAME alone."""
    column, equals, feature = text.rpartition("=")
    column, feature = (column, feature) if equals else (feature, feature)
    if not column or not feature:
        raise UsageError(f"column {text!r}: expected NAME=FEATURE, or NAME alone", argument="column")
    return column, feature


def _is_cell(spec: Any) -> bool:
    """Whether it is a tensor [n] or [n, 1] of numbers, strings or booleans."""
    free = spec.shape.rank in (1, 2) and spec.shape[0] is None
    kind = spec.dtype.name
    known = kind in ("string", "bool") or spec.dtype.is_integer or kind in ("float16", "float32", "float64")
    return free and known and (spec.shape.rank == 1 or spec.shape[1] == 1)


def _width(spec: Any) -> int | None:
    """How many features a matrix [n, features] has; -1 where any number; None if it is none."""
    if spec.shape.rank != 2 or spec.shape[0] is not None or spec.shape[1] == 1:
        return None
    if spec.dtype.name not in ("float16", "float32", "float64"):
        return None
    return spec.shape[1] or -1


def _of_matrix(
    spec: Any, width: int, given: list[tuple[str, str]], takes: str
) -> tuple[tuple[str, str, str], ...]:
    names = [column for column, _ in given]
    if not names or (width > 0 and len(names) != width):
        wanted = f"{width} columns" if width > 0 else "columns"
        found = f"{len(names)} are named" if names else "none is named"
        raise UsageError(f"column: {takes}: name its {wanted}, in their order; {found}", argument="column")
    if len(set(names)) < len(names):
        raise UsageError("column: one is named twice", argument="column")
    return tuple((name, name, spec.dtype.name) for name in names)


def _of_features(
    specs: dict[str, Any], given: list[tuple[str, str]], takes: str
) -> tuple[tuple[str, str, str], ...]:
    of_feature: dict[str, str] = {}
    for column, feature in given:
        if feature not in specs:
            raise UsageError(f"column {column}={feature}: no such feature; {takes}", argument="column")
        if feature in of_feature:
            reason = f"feature {feature!r} is column {of_feature[feature]!r} already"
            raise UsageError(f"column {column}={feature}: {reason}", argument="column")
        of_feature[feature] = column
    return tuple((of_feature.get(name, name), name, spec.dtype.name) for name, spec in sorted(specs.items()))
