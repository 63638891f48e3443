"""Models of tables: one matrix as the model itself takes it, and what is a table rather than sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tables
import tensorflow as tf

from transforms.encoder.config import ModelConfig
from transforms.encoder.hub import HubEncoder
from transforms.encoder.inputs import modality_of


def test_a_matrix_has_its_columns_in_the_order_in_which_they_are_named(tmp_path: Path) -> None:
    model = tables.matrix_model(tmp_path / "m")
    of = HubEncoder(ModelConfig(model, modality="tabular", column=("d", "b", "a", "c")))
    values = {name: np.linspace(i, i + 1, 5).tolist() for i, name in enumerate("abcd")}
    payloads, refused = of.modality.decode(values)
    prepared, unfit = of.prepare(payloads)
    assert (refused, unfit) == ({}, {})
    given = np.array([values[name] for name in "dbac"], np.float32).T
    (expected,) = tf.saved_model.load(model).signatures["serving_default"](tf.constant(given)).values()
    assert of.embed(prepared) == pytest.approx(expected.numpy(), abs=1e-6)


@pytest.mark.parametrize(
    ("value", "mask", "found"),
    [
        ([None], [None], "tabular"),
        ([None, 1], [None, 1], "tabular"),
        ([None], [None, 1], "tabular"),
        ([None, None], [None, None], "audio"),
    ],
)
def test_a_column_that_is_called_mask_is_no_mask_of_sound(
    tmp_path: Path, value: list[int | None], mask: list[int | None], found: str
) -> None:
    specs = [tf.TensorSpec(value, name="soundness"), tf.TensorSpec(mask, name="mask_worn")]
    module = tf.Module()
    module.serve = tf.function(lambda soundness, mask_worn: {"v": soundness + mask_worn}, specs)
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.serve})
    assert modality_of(tf, tf.saved_model.load(str(tmp_path)).signatures["serving_default"]) == found
