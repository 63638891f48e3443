"""Which files of a repository are the model."""

import pytest

from transforms.encoder.model.hub_files import NoModel, of_checkpoint, saved_model
from transforms.encoder.model.hugging_face import HubHandle, parse
from transforms.errors import UsageError

SAVED = ["saved_model.pb", "fingerprint.pb", "variables/variables.index", "assets/vocab.txt"]
BERT = [
    "config.json", "vocab.txt", "tokenizer.json", "sentencepiece.bpe.model", "modules.json",
    "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors",
]  # fmt: skip
NEITHER = "has neither a SavedModel (saved_model.pb) nor a checkpoint (config.json and *.safetensors)"
OTHERS = [
    "README.md", ".gitattributes", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack",
    "onnx/model.onnx", "onnx/config.json", "openvino/openvino_model.bin", "rust_model.ot",
    "2_Dense/pytorch_model.bin",
]  # fmt: skip


@pytest.mark.parametrize("folder", ["", "tf", "tf/1"])
def test_a_saved_model_is_found_with_its_files_alone(folder: str) -> None:
    below = f"{folder}/" if folder else ""
    names = [*OTHERS, "model.safetensors", *(below + name for name in SAVED)]
    for asked in (None, folder):
        found = saved_model(names, asked)
        assert found is not None
        assert found.folder == folder
        assert sorted(found.files) == sorted(below + name for name in SAVED)


def test_one_of_several_saved_models_is_named() -> None:
    names = [f"{folder}/{name}" for folder in ("small", "large") for name in SAVED]
    with pytest.raises(NoModel, match="has 2 SavedModels; name one at the handle's end: /large, /small"):
        saved_model(names, None)
    assert saved_model(names, "small").files[0] == "small/assets/vocab.txt"
    assert saved_model(names, "smal") is None
    at_top = saved_model([*names, *SAVED], None)
    assert at_top is not None
    assert (at_top.folder, sorted(at_top.files)) == ("", sorted(SAVED))


def test_the_top_can_be_named_where_a_folder_has_a_saved_model() -> None:
    names = [*BERT, "model.safetensors", *(f"saved_model/1/{name}" for name in SAVED)]
    assert saved_model(names, None).folder == "saved_model/1"
    assert saved_model(names, "") is None


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        (["model.safetensors"], ["model.safetensors"]),
        (["model.safetensors", "model.fp16.safetensors"], ["model.safetensors"]),
        (
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "consolidated.safetensors",
            ],
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ),
        (["weights.safetensors"], ["weights.safetensors"]),
    ],
)
@pytest.mark.parametrize("below", ["", "bert/"])
def test_a_checkpoint_is_taken_in_one_form(there: list[str], wanted: list[str], below: str) -> None:
    names = [*OTHERS, *(below + name for name in (*BERT, *there, "model.safetensors.index.json"))]
    expected = [below + name for name in (*BERT, *wanted, "model.safetensors.index.json")]
    assert sorted(of_checkpoint(names, below.rstrip("/"))) == sorted(expected)


@pytest.mark.parametrize("below", ["", "old/"])
def test_a_checkpoint_whose_transformer_has_a_folder(below: str) -> None:
    wanted = [
        "modules.json", "config_sentence_transformers.json", "1_Pooling/config.json",
        "0_Transformer/config.json", "0_Transformer/vocab.txt", "0_Transformer/model.safetensors",
    ]  # fmt: skip
    others = ["README.md", "0_Transformer/pytorch_model.bin", "0_Transformer/onnx/model.onnx"]
    names = [below + name for name in (*wanted, *others)]
    assert sorted(of_checkpoint(names, below.rstrip("/"))) == sorted(below + name for name in wanted)


@pytest.mark.parametrize(
    ("names", "folder", "message"),
    [
        ([], "", "is empty"),
        (["a"], "tf", "has no folder tf"),
        (
            ["README.md", "config.json", "x/model.safetensors"],
            "",
            f"{NEITHER}; found README.md, config.json, x/model.safetensors",
        ),
        (
            ["m/config.json", "m/pytorch_model.bin"],
            "m",
            f"{NEITHER} in m; found config.json, pytorch_model.bin; .bin weights are not read, since they "
            "can run code: convert them to model.safetensors",
        ),
        (
            [f"{i}.gguf" for i in range(10)],
            "",
            f"{NEITHER}; found 0.gguf, 1.gguf, 2.gguf, 3.gguf, 4.gguf, 5.gguf, 6.gguf, 7.gguf and 2 more",
        ),
    ],
)
def test_no_model(names: list[str], folder: str, message: str) -> None:
    with pytest.raises(NoModel) as e:
        of_checkpoint(names, folder)
    assert str(e.value) == message


@pytest.mark.parametrize(
    ("handle", "parts"),
    [
        ("hf://org/name", ("org/name", None, None)),
        ("hf://org/na.me-1_x@v1.0", ("org/na.me-1_x", "v1.0", None)),
        ("hf://org/name/tf/1/", ("org/name", None, "tf/1")),
        ("hf://org/name@main/tf", ("org/name", "main", "tf")),
        ("hf://org/name@refs/pr/7/tf", ("org/name", "refs/pr/7", "tf")),
        ("hf://org/name@feature%2Fone", ("org/name", "feature/one", None)),
        ("hf://org/name/.", ("org/name", None, "")),
    ],
)
def test_handles(handle: str, parts: tuple) -> None:
    assert parse(handle) == HubHandle(*parts)
    assert parse(str(parse(handle))) == HubHandle(*parts)


@pytest.mark.parametrize(
    "handle", ["hf://name", "hf://", "hf://a/b@", "hf://a/b/../c", "hf://a b/c", "hf://a/b@c@d"]
)
def test_handles_of_another_form(handle: str) -> None:
    with pytest.raises(UsageError) as e:
        parse(handle)
    assert str(e.value).endswith(": expected hf://ORG/NAME[@REVISION][/FOLDER]")
