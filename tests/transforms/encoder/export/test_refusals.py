"""What cannot be done exactly is refused by name, in one line, before TensorFlow is started."""

import json
import shutil
from pathlib import Path

import pytest
from families import FAMILIES, write_family
from safetensors.numpy import save_file

from transforms.encoder.export.checkpoint import read_checkpoint
from transforms.encoder.export.host_tokenizer import HostTokenizer
from transforms.encoder.export.wordpiece import WordPiece
from transforms.errors import UsageError


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("families")
    return {name: write_family(folder / name, name) for name in FAMILIES}


@pytest.fixture
def copy(written, tmp_path):
    """copy(family, file=changes...) is a checkpoint with changed JSON files."""

    def make(family: str, **changes: dict) -> Path:
        folder = tmp_path / "checkpoint"
        shutil.copytree(written[family], folder)
        for name, change in changes.items():
            path = folder / f"{name}.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | change))
        return folder

    return make


CONFIG = [
    ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 4}}, "rope scaling 'yarn' is not supported"),
    ("llama", {"rope_scaling": {"type": "dynamic", "factor": 4}}, "rope scaling 'dynamic'"),
    ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "'low_freq_factor' is missing"),
    (
        "llama",
        {"rope_scaling": {"type": "linear", "factor": "x"}},
        "rope scaling 'linear': could not convert",
    ),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 is not supported"),
    ("llama", {"auto_map": {"AutoModel": "own.Llama"}}, "llama with code of its own"),
    ("llama", {"num_key_value_heads": 3}, "3 key heads do not divide 4 heads"),
    ("llama", {"hidden_act": "xielu"}, "hidden_act 'xielu'"),
    ("mistral", {"is_causal": False}, "is_causal False is not supported, only True"),
    ("qwen3", {"layer_types": ["full_attention", "linear_attention"] * 2}, "layer type 'linear_attention'"),
    ("qwen3", {"layer_types": ["full_attention"]}, "1 layer_types for num_hidden_layers 3"),
    ("modernbert", {"layer_types": ["chunked_attention"] * 4}, "layer type 'chunked_attention'"),
    ("modernbert", {"rope_scaling": {"type": "yarn"}}, "rope scaling 'yarn'"),
    ("nomic_bert", {"moe_every_n_layers": 2}, "moe_every_n_layers 2 is not supported"),
    ("nomic_bert", {"rotary_scaling_factor": 2}, "rotary_scaling_factor 2 is"),
    ("nomic_bert", {"activation_function": "gelu"}, "activation_function 'gelu' is"),
    ("nomic_bert", {"prenorm": True}, "prenorm True is"),
    ("nomic_bert", {"causal": True}, "causal True is not supported, only False"),
    ("modernbert", {"local_rope_theta": None}, "local_rope_theta null is not supported"),
    ("mpnet", {"relative_attention_num_buckets": 64}, "relative_attention_num_buckets 64 is"),
    ("bert", {"position_embedding_type": "alibi"}, "position_embedding_type 'alibi'"),
    ("roberta", {"pad_token_id": 600}, "pad_token_id is 600; expected a row"),
    ("roberta", {"is_decoder": True}, "is_decoder True"),
    ("xlm-roberta", {"quantization_config": {"quant_method": "bitsandbytes"}}, r"weights \(bitsandbytes\)"),
    ("qwen3", {"model_type": "qwen3_moe"}, "model_type 'qwen3_moe' is not supported, only bert or distil"),
    ("qwen3", {"head_dim": 8}, r"tensor layers.0\S+ has shape .* from config.json"),
    ("llama", {"num_key_value_heads": "two"}, "num_key_value_heads is 'two'; expected a number"),
    ("llama", {"rope_scaling": "llama3"}, "no configuration of llama: .*; expected it as"),
    ("mistral", {"sliding_window": "wide"}, "no configuration of mistral: "),
    ("bert", {"num_attention_heads": 0}, "num_attention_heads is 0; expected a number of at least 1"),
]


@pytest.mark.parametrize(("family", "changes", "message"), CONFIG)
def test_configurations(copy, family, changes, message):
    folder = copy(family, config=changes)
    with pytest.raises(UsageError, match=message) as error:
        read_checkpoint(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


TOKENIZERS = [
    ({"truncation_side": "left"}, "truncation_side 'left' is not supported"),
    (
        {"add_eos_token": False},
        "add_eos_token is false, but tokenizer.json's post_processor adds '</s>'; save",
    ),
    ({"bos_token": "<x>"}, "add_bos_token is true, but tokenizer.json's post_processor does not add '<x>'"),
    ({"model_max_length": "all"}, "a window of 'all' tokens"),
]


@pytest.mark.parametrize(("changes", "message"), TOKENIZERS)
def test_tokenizers(copy, changes, message):
    folder = copy("mistral", tokenizer_config=changes, sentence_bert_config={"max_seq_length": None})
    with pytest.raises(UsageError, match=message):
        read_checkpoint(folder)


CONTRADICTIONS = [
    ("mpnet", {"do_lower_case": False}, "do_lower_case is false, but .* normalizer has lowercase true"),
    ("mpnet", {"strip_accents": False}, "strip_accents is false, but .* normalizer has strip_accents true"),
    ("mpnet", {"tokenizer_class": None, "do_lower_case": False}, "do_lower_case is false"),
    ("mpnet", {"tokenize_chinese_chars": False}, "tokenize_chinese_chars is false, but"),
    ("roberta", {"add_prefix_space": True}, "add_prefix_space is true, but .* pre_tokenizer has false"),
    ("roberta", {"tokenizer_class": "RobertaTokenizerFast", "add_prefix_space": True}, "add_prefix_space is"),
    ("qwen3", {"add_prefix_space": True}, "add_prefix_space is true, but .* pre_tokenizer has false"),
    ("xlm-roberta", {"tokenizer_class": "XLMRobertaTokenizer", "add_prefix_space": False}, "has true; save"),
]


@pytest.mark.parametrize(("family", "changes", "message"), CONTRADICTIONS)
def test_settings_that_contradict_the_tokenizer(copy, family, changes, message):
    folder = copy(family, tokenizer_config=changes)
    with pytest.raises(UsageError, match=message):
        read_checkpoint(folder)
    alone = {"tokenizer_class": "PreTrainedTokenizerFast"}  # follows tokenizer.json
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | alone))
    assert isinstance(read_checkpoint(folder).tokenizer, HostTokenizer)


def test_the_class_says_whether_a_normalizer_counts(copy):
    """BertTokenizer on the host: its tokenizer.json has a token more than BERT's."""
    folder = copy("bert")
    content = wordpiece_json(folder)
    content["added_tokens"].append({"id": 5, "content": content_of(content, 5), "special": False})
    content["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"do_lower_case is true, but .* has lowercase false"):
        read_checkpoint(folder)


def content_of(tokenizer: dict, number: int) -> str:
    return next(token for token, i in tokenizer["model"]["vocab"].items() if i == number)


CASING = [
    ({"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": True}, False),
    ({"tokenizer_class": "BertTokenizer", "do_lower_case": None}, True),
    ({"tokenizer_class": None, "do_lower_case": None}, True),
    ({"tokenizer_class": "BertTokenizer", "do_lower_case": False}, False),
]


@pytest.mark.parametrize(("settings", "lower_case"), CASING)
def test_casing_in_the_graph(copy, settings, lower_case):
    folder = copy("bert", tokenizer_config=settings)
    content = wordpiece_json(folder)
    content["normalizer"] |= {"lowercase": False, "strip_accents": False}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = read_checkpoint(folder).tokenizer
    assert (tokenizer.lower_case, tokenizer.strip_accents) == (lower_case, lower_case)


def test_ids_with_gaps_stay_as_they_are(copy):
    folder = copy("bert")
    content = wordpiece_json(folder)
    (folder / "vocab.txt").unlink()
    del content["model"]["vocab"]["[PAD]"]  # id 0, which added_tokens has
    (folder / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = read_checkpoint(folder).tokenizer
    assert isinstance(tokenizer, HostTokenizer)
    assert tokenizer.content["model"]["vocab"] == content["model"]["vocab"]


SETTINGS = [
    ({"tokenizer_args": {"do_lower_case": True}}, "tokenizer_args {'do_lower_case': True} is not supported"),
    ({"processor_kwargs": {"model_max_length": 64}}, "processor_kwargs {'model_max_length': 64} is not"),
    ({"query_length": 32}, "query_length 32 is not supported, only none"),
    ({"transformer_task": "fill-mask"}, "'?fill-mask'? is not supported, only feature-extraction"),
    ({"modality_config": {"text": {"method": "encode"}}}, "modality_config {'method': 'encode'} for texts"),
]


@pytest.mark.parametrize(("changes", "message"), SETTINGS)
@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_settings_of_the_transformer(copy, kind, changes, message):
    folder = copy("roberta", sentence_bert_config=changes)
    (folder / "sentence_bert_config.json").rename(folder / f"sentence_{kind}_config.json")
    with pytest.raises(UsageError, match=message):
        read_checkpoint(folder)


KINDS = ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")


@pytest.mark.parametrize("kind", KINDS)
def test_settings_under_other_names(copy, kind):
    said = {
        "max_seq_length": 33,
        "model_args": {"trust_remote_code": True},
        "processor_kwargs": {},
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
        "unpad_inputs": True,
    }
    folder = copy("roberta", sentence_bert_config=said)
    (folder / "sentence_bert_config.json").rename(folder / f"sentence_{kind}_config.json")
    assert read_checkpoint(folder).max_tokens == 33


def test_modules_with_code_of_their_own(copy):
    folder = copy("bert")
    path = folder / "modules.json"
    path.write_text(path.read_text().replace("sentence_transformers.models.Pooling", "own.Pooling"))
    with pytest.raises(UsageError, match=r"modules.json: module 'own.Pooling', which is code of its own, is"):
        read_checkpoint(folder)


def test_a_transformer_in_a_folder_of_its_own(copy):
    """As sentence-transformers saved it once."""
    folder = copy("bert")
    expected = read_checkpoint(folder)
    path, below = folder / "modules.json", folder / "0_Transformer"
    modules = json.loads(path.read_text())
    modules[0]["path"] = below.name
    path.write_text(json.dumps(modules))
    below.mkdir()
    for each in folder.iterdir():
        if each.is_file() and each.name not in ("modules.json", "config_sentence_transformers.json"):
            each.rename(below / each.name)
    found = read_checkpoint(folder)
    assert (found.made_of, found.tokenizer) == (expected.made_of, expected.tokenizer)
    assert (found.pooling, found.dim, set(found.weights)) == ("cls", 16, set(expected.weights))


def test_a_missing_tokenizer_is_named(copy):
    folder = copy("qwen3")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(
        UsageError, match=r"tokenizer.json not found; expected the tokenizer .*save_pretrained"
    ):
        read_checkpoint(folder)


def test_more_tokens_than_the_model_has(copy):
    folder = copy("xlm-roberta", config={"vocab_size": 40})
    with pytest.raises(UsageError, match=r"token id \d+, but config.json has vocab_size 40"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    "changes", [{"model": {"vocab": 3}}, {"added_tokens": [{"content": "<s>"}]}, {"model": None}]
)
def test_a_malformed_tokenizer_is_named(copy, changes):
    with pytest.raises(UsageError, match=r"tokenizer.json: no token"):
        read_checkpoint(copy("qwen3", tokenizer={"added_tokens": []} | changes))


def test_a_decoder_says_how_it_is_pooled(copy):
    folder = copy("qwen3")
    (folder / "modules.json").unlink()
    with pytest.raises(
        UsageError, match=r"modules.json not found; expected how a decoder's token vectors are"
    ):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [("adapter_config.json", "an adapter"), ("model.gguf", "GGUF"), ("model.bin", "can run code")],
)
def test_foreign_weights(copy, name, message):
    folder = copy("qwen3")
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(UsageError, match=message):
        read_checkpoint(folder)


def test_integer_weights(copy):
    folder = copy("qwen3")
    import numpy as np

    save_file({"embed_tokens.weight": np.zeros((4, 4), np.int8)}, folder / "model.safetensors")
    with pytest.raises(UsageError, match=r"tensor embed_tokens.weight is I8, expected F16 or BF16"):
        read_checkpoint(folder)


DENSE = [
    ({"activation_function": "torch.nn.modules.activation.Softplus"}, "Softplus is not supported"),
    ({"activation_function": "own.Tanh"}, "activation own.Tanh is not"),
    ({"module_input_name": "token_embeddings"}, "module_input_name 'token_embeddings'"),
    ({"use_residual": True}, "use_residual True"),
    ({"in_features": 64}, "in_features 64, but what comes before it gives 32"),
    ({"out_features": 8}, r"linear.bias has shape \[24\], expected \[8\]"),
]


@pytest.mark.parametrize(("changes", "message"), DENSE)
def test_dense_modules(copy, changes, message):
    with pytest.raises(UsageError, match=message):
        read_checkpoint(copy("bert", **{"2_Dense/config": changes}))


def test_a_tokenizer_that_is_not_berts_goes_to_the_host(copy, written):
    """MPNet's vocab.txt has other special tokens; multilingual MiniLM is a BERT with XLM-R's tokenizer."""
    kinds = {name: type(read_checkpoint(folder).tokenizer) for name, folder in written.items()}
    assert {name for name, kind in kinds.items() if kind is WordPiece} == {"bert", "distilbert", "nomic_bert"}
    multilingual = read_checkpoint(copy("xlm-roberta", config={"model_type": "bert"}))
    assert (multilingual.made_of.family, type(multilingual.tokenizer)) == ("bert", HostTokenizer)


def wordpiece_json(folder: Path) -> dict:
    from tokenizers import BertWordPieceTokenizer

    own = BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True)
    own.save(str(folder / "tokenizer.json"))
    return json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))


def test_berts_tokenizer_json_goes_into_the_graph(copy):
    folder = copy("bert")
    expected = read_checkpoint(folder).tokenizer
    content = wordpiece_json(folder)
    assert read_checkpoint(folder).tokenizer == expected
    (folder / "vocab.txt").unlink()
    assert read_checkpoint(folder).tokenizer == expected
    content["normalizer"]["clean_text"] = False
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="clean_text false, but BertTokenizer's normalizer cleans"):
        read_checkpoint(folder)
    alone = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(alone))
    assert isinstance(read_checkpoint(folder).tokenizer, HostTokenizer)


def test_a_host_tokenizer_neither_cuts_nor_pads(copy):
    cut = {"max_length": 5, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    padding = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 1,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    folder = copy("roberta", tokenizer={"truncation": cut, "padding": padding})
    content = read_checkpoint(folder).tokenizer.content
    assert content["truncation"] is content["padding"] is None


@pytest.mark.parametrize("dims", [[8, 16], [16, 8]])
def test_matryoshka_dims_are_read(copy, dims):
    assert read_checkpoint(copy("qwen3", config={"matryoshka_dims": dims})).matryoshka_dims == (8, 16)


def test_nomic_as_it_was_published(copy):
    """The same model in the names of its own code."""
    names = {
        "hidden_size": "n_embd",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
        "intermediate_size": "n_inner",
        "max_position_embeddings": "n_positions",
    }
    own = {
        "auto_map": {"AutoModel": "nomic--NomicBertModel"},
        "activation_function": "swiglu",
        "prenorm": False,
    }
    own |= {"rotary_emb_base": 1000, "rotary_emb_fraction": 1.0, "rotary_scaling_factor": None}
    folder = copy("nomic_bert")
    expected = read_checkpoint(folder).made_of
    config = json.loads((folder / "config.json").read_text()) | own
    config = {names.get(key, key): value for key, value in config.items() if key != "hidden_act"}
    (folder / "config.json").write_text(json.dumps(config))
    assert read_checkpoint(folder).made_of == expected


def test_windows(copy):
    settings = {"max_seq_length": None}
    folder = copy("xlm-roberta", sentence_bert_config=settings, tokenizer_config={"model_max_length": 10**30})
    assert read_checkpoint(folder).max_tokens == 8192  # of 8,194 positions, two are the padding's
    (folder / "sentence_bert_config.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    assert read_checkpoint(folder).max_tokens == 8192
