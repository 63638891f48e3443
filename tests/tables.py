"""Keras models that take rows, as `model.export` writes them, and tables in every format."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

DIM = 6


def features_model(folder: Path | str) -> str:
    """age and income as floats, visits as integers, a flag, and a city as a string; a column [n, 1] each."""
    tf.keras.utils.set_random_seed(11)
    kinds = {"age": "float32", "income": "float32", "visits": "int64", "member": "bool", "city": "string"}
    inputs = {name: tf.keras.Input((1,), name=name, dtype=kind) for name, kind in kinds.items()}
    numbers = [
        tf.keras.layers.Rescaling(0.01)(inputs["age"]),
        tf.keras.layers.Rescaling(1e-5)(inputs["income"]),
    ]
    cast = tf.keras.layers.Lambda(lambda value: tf.cast(value, tf.float32), output_shape=(1,))
    numbers += [cast(inputs["visits"]), cast(inputs["member"])]
    hashed = tf.keras.layers.Hashing(16, output_mode="one_hot")(inputs["city"])
    joined = tf.keras.layers.Concatenate()([*numbers, hashed])
    hidden = tf.keras.layers.Dense(16, activation="tanh")(joined)
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(DIM, name="embedding")(hidden))
    model.export(str(folder), verbose=False)
    return str(folder)


def matrix_model(folder: Path | str) -> str:
    """Four numbers in one tensor [n, 4]."""
    tf.keras.utils.set_random_seed(12)
    model = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(DIM, activation="tanh")])
    model.export(str(folder), verbose=False)
    return str(folder)


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Sound rows; the numbers are float32's own, so that every format carries them exactly."""
    random = np.random.default_rng(seed)
    cities = ["Oslo", "Köln", "東京", "a b", ""]
    return [
        {
            "id": f"r{i}",
            "age": float(np.float32(random.uniform(18, 90))),
            "income": float(np.float32(random.uniform(1e4, 1e5))),
            "visits": int(random.integers(0, 50)),
            "member": bool(random.integers(0, 2)),
            "city": cities[i % 5],
        }
        for i in range(count)
    ]


def write(path: Path, table: list[dict[str, Any]], kind: str) -> Path:
    """Writes a table in a format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path = path.with_suffix(f".{kind}")
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(table), path, row_group_size=16)
    elif kind == "jsonl":
        path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in table))
    elif kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    else:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for row in table:
                writer.write(_example(row))
    return path


def _example(row: dict[str, Any]) -> bytes:
    def feature(value: Any) -> tf.train.Feature:
        if isinstance(value, str):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
        if isinstance(value, float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value)]))

    features = {name: feature(value) for name, value in row.items() if value is not None}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
