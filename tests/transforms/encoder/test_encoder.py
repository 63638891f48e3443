import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from models import DIM, save_hash_model

from transforms.encoder.config import ModelConfig
from transforms.encoder.hub import HubEncoder
from transforms.encoder.messages import first_line
from transforms.errors import ModelError, UsageError

STRINGS = tf.TensorSpec([None], tf.string, name="text")


pytestmark = pytest.mark.usefixtures("own_caches")


def save(folder: Path, call: Any = None, **signatures: Any) -> str:
    """Saves a model of these functions; `call` becomes the model's own call, beside no signature."""
    module = tf.Module()
    for name, function in signatures.items():
        setattr(module, name, function)
    if call is not None:
        module.__call__ = call
    # TF makes a call a signature too, unless there is another.
    tf.saved_model.save(module, str(folder), signatures=signatures or {"unused": signature(lambda text: {})})
    return str(folder)


def signature(function: Any, *specs: tf.TensorSpec) -> Any:
    return tf.function(function, input_signature=specs or [STRINGS])


def constant(value: float, dim: int = 2, dtype: tf.DType = tf.float32) -> Any:
    """text [n] -> [n, dim] of one value."""
    return lambda text: tf.fill([tf.shape(text)[0], dim], tf.constant(value, dtype))


def named(value: float, **fields: Any) -> Any:
    return signature(lambda text: {"out": constant(value, **fields)(text)})


def load(handle: str | Path, **config: Any) -> HubEncoder:
    return HubEncoder(ModelConfig(str(handle), **config))


def error(handle: str | Path, **config: Any) -> str:
    """The one line with which loading fails, without the handle."""
    with pytest.raises(UsageError) as caught:
        load(handle, **config)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(handle), "M")


# The hash model


def test_a_real_model(model: Path) -> None:
    encoder = load(model)
    assert (encoder.signature, encoder.output, encoder.input.described) == (
        "serving_default",
        "embedding",
        "text: string [n]",
    )
    assert (encoder.dim, encoder.dtype, encoder.window, encoder.can_count) == (DIM, "float32", 16, True)
    vectors = encoder.embed(["a b", "c", "a b"])
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, DIM)
    assert vectors[0].tolist() == vectors[2].tolist() == encoder.embed(["a b"])[0].tolist()
    assert vectors[0].tolist() != vectors[1].tolist()
    assert encoder.count_tokens(["a b", "", "c d e"]).tolist() == [2, 0, 3]
    assert encoder.embed([encoder.sample]).shape == (1, DIM)


def test_a_model_that_neither_counts_nor_states_its_window(tmp_path: Path) -> None:
    encoder = load(save_hash_model(tmp_path / "m", counts=False, window=None))
    assert (encoder.can_count, encoder.window) == (False, None)
    with pytest.raises(ModelError, match=r"^the model cannot count tokens"):
        encoder.count_tokens(["a"])


# Signatures


@pytest.mark.parametrize(
    ("signatures", "chosen", "value"),
    [
        ({"serving_default": 1.0, "default": 2.0, "other": 3.0}, "serving_default", 1.0),
        ({"default": 2.0, "other": 3.0}, "default", 2.0),
    ],
)
def test_which_signature_is_chosen(tmp_path, signatures, chosen, value) -> None:
    path = save(tmp_path / "m", **{name: named(v) for name, v in signatures.items()})
    encoder = load(path)
    assert encoder.signature == chosen
    assert encoder.embed(["a"]).tolist() == [[value, value]]
    assert load(path, signature="other").embed(["a"]).tolist() == [[3.0, 3.0]]


def test_the_models_own_call(tmp_path: Path) -> None:
    encoder = load(save(tmp_path / "m", call=signature(constant(5.0))))
    assert (encoder.signature, encoder.output) == ("__call__", None)
    assert encoder.embed(["a", "b"]).tolist() == [[5.0, 5.0]] * 2


def test_a_call_with_a_training_flag_and_a_dict(tmp_path: Path) -> None:
    @tf.function
    def call(text, training=False):
        return {"default": constant(2.0 if training else 1.0)(text), "ids": tf.strings.length(text)}

    call.get_concrete_function(STRINGS, training=False)
    encoder = load(save(tmp_path / "m", call=call))
    assert (encoder.signature, encoder.output) == ("__call__", "default")
    assert encoder.embed(["a"]).tolist() == [[1.0, 1.0]]


def test_a_signature_that_is_not_there(tmp_path: Path) -> None:
    path = save(tmp_path / "m", a=named(1.0), b=named(2.0))
    assert error(path, signature="c") == "signature c: the model has no such signature; it has: a, b"
    assert error(path) == (
        "model M: has neither serving_default nor a call; it has the signatures: a, b; "
        "name one with `signature`"
    )


# Inputs


@pytest.mark.parametrize(
    ("specs", "takes"),
    [
        ([tf.TensorSpec([None, 224, 224, 3], tf.float32, "x")], "x: float32 [n, 224, 224, 3]"),
        ([STRINGS, tf.TensorSpec([None], tf.string, "y")], "text: string [n], y: string [n]"),
        ([tf.TensorSpec([None], tf.int32, "ids")], "ids: int32 [n]"),
    ],
)
def test_inputs_that_are_not_one_string_tensor(tmp_path: Path, specs, takes: str) -> None:
    def serve(*tensors):
        return {"out": tf.zeros([tf.shape(tensors[0])[0], 2])}

    names = ", ".join(spec.name for spec in specs)
    source = f"lambda {names}: serve({names})"
    path = save(tmp_path / "m", serving_default=signature(eval(source, {"serve": serve}), *specs))
    # Keyword arguments of a signature come in order of name.
    assert error(path, modality="text") == (
        f"model M: signature serving_default takes ({takes}), expected one string tensor [n]: "
        "choose a text model, another `signature`, or the `modality` that fits"
    )


@pytest.mark.parametrize("shape", [[None, 2], [3], [], [None, 1, 1]])
def test_string_inputs_of_another_shape(tmp_path: Path, shape: list[int | None]) -> None:
    spec = tf.TensorSpec(shape, tf.string, name="text")
    path = save(tmp_path / "m", serving_default=signature(lambda text: {"out": tf.zeros([1, 2])}, spec))
    shown = str([d or "n" for d in shape]).replace("'", "")
    assert error(path) == (
        f"model M: signature serving_default takes (text: string {shown}), "
        "expected one string tensor [n] with a free first dimension"
    )


def test_an_input_of_shape_n_1(tmp_path: Path) -> None:
    def serve(text):
        return {"out": tf.cast(tf.strings.length(text), tf.float32)}

    spec = tf.TensorSpec([None, 1], tf.string, name="text")
    encoder = load(save(tmp_path / "m", serving_default=signature(serve, spec)))
    assert encoder.embed(["a", "bcd"]).tolist() == [[1.0], [3.0]]


# Outputs


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_float_types_become_float32(tmp_path: Path, dtype: str) -> None:
    encoder = load(save(tmp_path / "m", serving_default=named(0.5, dtype=tf.as_dtype(dtype))))
    vectors = encoder.embed(["a"])
    assert (encoder.dtype, vectors.dtype, vectors.tolist()) == (dtype, np.float32, [[0.5, 0.5]])


def test_several_outputs(tmp_path: Path) -> None:
    def serve(text):
        return {"a": constant(1.0)(text), "b": constant(2.0, dim=3)(text), "n": tf.strings.length(text)}

    path = save(tmp_path / "m", serving_default=signature(serve))
    described = "a: float32 [n, 2], b: float32 [n, 3], n: int32 [n]"  # by name: TF keeps no order
    assert error(path) == (
        "model M: has several outputs that hold vectors (a: float32 [n, 2], b: float32 [n, 3]); "
        "name one with `model_output`"
    )
    assert error(path, output="c") == f"model_output c: no such output; the model has ({described})"
    assert error(path, output="n") == (
        "model_output n: is int32 [n], expected floats [n, dim] or [n, positions, dim]"
    )
    encoder = load(path, output="b")
    assert (encoder.dim, encoder.embed(["x"]).tolist()) == (3, [[2.0] * 3])


def test_an_output_called_default_is_the_one_meant(tmp_path: Path) -> None:
    def serve(text):
        return {"default": constant(1.0)(text), "other": constant(2.0)(text)}

    encoder = load(save(tmp_path / "m", serving_default=signature(serve)))
    assert (encoder.output, encoder.embed(["x"]).tolist()) == ("default", [[1.0, 1.0]])


def test_outputs_without_names(tmp_path: Path) -> None:
    two = save(tmp_path / "two", call=signature(lambda text: (constant(1.0)(text), constant(2.0)(text))))
    assert error(two) == "model M: gives 2 outputs without names, expected one; choose another `signature`"
    one = save(tmp_path / "one", call=signature(lambda text: [constant(1.0)(text)]))
    assert load(one).embed(["a"]).tolist() == [[1.0, 1.0]]
    assert error(one, output="x") == "model_output x: the model has one output, without a name"
    number = save(tmp_path / "int", call=signature(constant(1, dtype=tf.int32)))
    assert error(number) == (
        "model M: its output is int32 [n, 2], expected floats [n, dim] or [n, positions, dim]"
    )


def test_no_float_output(tmp_path: Path) -> None:
    path = save(tmp_path / "m", serving_default=signature(lambda text: {"n": tf.strings.length(text)}))
    assert error(path) == (
        "model M: has no vectors among its outputs (n: int32 [n]), expected floats [n, dim] or "
        "[n, positions, dim]; choose another `signature`"
    )


def test_a_shape_that_only_the_first_call_shows(tmp_path: Path) -> None:
    def unknown(shape):  # as TF infers nothing of a py_function
        return signature(lambda text: {"out": tf.reshape(tf.ones([6]), tf.cast(shape(text), tf.int32))})

    rank = save(tmp_path / "rank", serving_default=unknown(lambda t: tf.concat([[tf.size(t)], [2, 3, 1]], 0)))
    assert error(rank).startswith("model M: has no vectors among its outputs (out: float32 ")
    rows = save(tmp_path / "rows", serving_default=unknown(lambda t: [3 * tf.size(t), 2]))
    assert error(rows) == "model M: the model gave [3, 2] for 1 documents, expected [1, dim]"


def test_a_dim_that_changes(tmp_path: Path) -> None:
    def serve(text):
        n = tf.size(text)
        return {"out": tf.ones([n, n])}

    encoder = load(save(tmp_path / "m", serving_default=signature(serve)))
    with pytest.raises(ModelError, match=r"^the model gave \[2, 2\] for 2 documents, expected \[2, 1\]$"):
        encoder.embed(["a", "b"])


def test_nan_for_the_sample(tmp_path: Path) -> None:
    path = save(tmp_path / "m", serving_default=named(float("nan")))
    assert error(path) == "model M: gives NaN or infinity for a sample text"


def test_a_model_that_fails_on_the_sample_says_why(tmp_path: Path) -> None:
    def serve(text):
        with tf.control_dependencies([tf.debugging.Assert(tf.size(text) > 9, ["too few"])]):
            return {"out": constant(1.0)(text)}

    path = save(tmp_path / "m", serving_default=signature(serve))
    reason = "model M: fails on a sample text: assertion failed: [too few]"
    assert error(path, modality="text") == reason
    assert error(path) == f"{reason}; if it takes other documents, say so with `modality`"


def test_count_tokens_of_the_wrong_shape(tmp_path: Path) -> None:
    count = signature(lambda text: {"tokens": tf.constant([1, 2])})
    path = save(tmp_path / "m", serving_default=named(1.0), count_tokens=count)
    assert error(path) == "model M: signature count_tokens gave [2] for 1 documents, expected [1]"
    floats = signature(lambda x: {"tokens": x}, tf.TensorSpec([None], tf.float32, "x"))
    path = save(tmp_path / "n", serving_default=named(1.0), count_tokens=floats)
    assert error(path).startswith("model M: signature count_tokens takes (x: float32 [n]), expected one")


def test_threads_share_a_model(model: Path) -> None:
    encoder = load(model)
    texts = [[f"text {i} of {t}" for i in range(t + 1)] for t in range(8)]
    expected = [encoder.embed(some).tolist() for some in texts]
    got: list[Any] = [None] * 8
    threads = [
        threading.Thread(target=lambda t=t: got.__setitem__(t, encoder.embed(texts[t]).tolist()))
        for t in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == expected


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("plain", "plain"),
        ("\n  two\nlines", "two"),
        ("", "ValueError"),
        (
            "Graph execution error:\n\nDetected at node A defined at\n"
            '  File "a.py", line 1\n    x = y\nwhy\n\t [[A]]',
            "why",
        ),
        (
            "2 root error(s) found.\n  (0) INVALID_ARGUMENT: why\n\t [[A]]\n  (1) other",
            "INVALID_ARGUMENT: why",
        ),
    ],
)
def test_first_line(message: str, line: str) -> None:
    assert first_line(ValueError(message)) == line
