"""What sentence-transformers' files say of a model: window, pooling, what follows it, prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from transforms.encoder.export.config import Config, read_config, read_json, require
from transforms.encoder.export.weights import read_weights
from transforms.errors import UsageError

POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}
_MODES = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_DENSE_ACTIVATIONS = {"Identity": "identity", "Tanh": "tanh", "ReLU": "relu", "GELU": "gelu", "SiLU": "silu"}
# Where the transformer's settings are looked for; the first that says something counts.
_SETTINGS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# What they may say, None standing for anything; all other keys must be empty.
_KNOWN = {
    "max_seq_length": None,
    "do_lower_case": None,
    "unpad_inputs": None,  # the same vectors in another layout
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
}
_OF_TEXT = {"method": "forward", "method_output_name": "last_hidden_state"}
_SUPPORTED = "Transformer + Pooling (+ Dense...) (+ Normalize)"


@dataclass(frozen=True)
class DenseModule:
    """A dense layer on the pooled vectors.

    Attributes:
      activation: a key of blocks.dense.ACTIVATIONS.
      weights: "linear.weight" [out, in], and "linear.bias" [out] where it has one.
    """

    activation: str
    weights: Mapping[str, np.ndarray] = field(repr=False)
    out: int


@dataclass(frozen=True)
class Modules:
    """What comes after the transformer.

    Attributes:
      pooling: "mean" over a text's tokens, "cls" for its first one, "last" for its last; None: not said.
      dense: layers on the pooled vector.
      normalize: whether embeddings are scaled to length 1.
    """

    pooling: str | None = None
    dense: tuple[DenseModule, ...] = ()
    normalize: bool = False


def read_window(folder: Path, config: Config, *, window: int, lower_case: bool) -> int:
    """The longest text in tokens: sentence-transformers' word, else the tokenizer's, else `window`."""
    settings = _read_settings(folder)
    if settings.get("do_lower_case", False) and not lower_case:
        raise settings.refuse("do_lower_case is not supported where the tokenizer does not lowercase itself")
    limit = settings.get("max_seq_length")
    if limit is None and (path := folder / "tokenizer_config.json").exists():
        settings = read_config(path, expected="the tokenizer's settings")
        limit = settings.get("model_max_length")
    if limit is None:
        return window
    if not isinstance(limit, (int, float)) or limit < 2:
        raise settings.refuse(f"a window of {limit!r} tokens; expected a number of at least 2")
    return int(min(limit, window))


def _read_settings(folder: Path) -> Config:
    paths = [folder / name for name in _SETTINGS if (folder / name).exists()]
    read = [read_config(path, expected="max_seq_length") for path in paths]
    settings = next((each for each in read if each.values), Config(folder / _SETTINGS[0], {}))
    for key, value in settings.values.items():
        if key == "modality_config" and isinstance(value, dict):
            found = value.get("text")
            require(found == _OF_TEXT, settings.path, f"{key} {found!r} for texts is", [_OF_TEXT])
            continue
        if isinstance(value, dict):  # the reference takes this word from nobody's file
            value = {name: each for name, each in value.items() if name != "trust_remote_code"}
        known = key in _KNOWN and _KNOWN[key] in (None, value)
        require(known or not value, settings.path, f"{key} {value!r} is", [_KNOWN.get(key, "none")])
    return settings


def find_transformer(folder: Path) -> Path:
    """The folder of the transformer and its tokenizer, as modules.json names it; older releases had 0_*/."""
    modules = _list_modules(folder)
    return folder / modules[0][1] if modules else folder


def _list_modules(folder: Path) -> list[tuple[str, str]]:
    """(type, folder) of each module of modules.json."""
    path = folder / "modules.json"
    if not path.exists():
        return []
    modules = read_json(path, expected="the list of modules", kind=list)
    if not all(isinstance(module, dict) for module in modules):
        raise UsageError(f"{path}: a module is no object; expected its type and path")
    found = [(str(module.get("type", "")), str(module.get("path") or "")) for module in modules]
    for kind, _ in found:
        own = not kind.startswith("sentence_transformers.")
        require(not own, path, f"module {kind!r}, which is code of its own, is", ["sentence_transformers'"])
    return found


def read_modules(folder: Path, *, hidden: int) -> Modules:
    """Reads modules.json and the folders that it names; without it, nothing is said.

    Raises:
      UsageError: a module, or a way of pooling, that is not done here.
    """
    path = folder / "modules.json"
    if not path.exists():
        return Modules()
    modules = [(kind.rpartition(".")[2], folder / place) for kind, place in _list_modules(folder)]
    names = [name for name, _ in modules]
    normalize = names[-1:] == ["Normalize"]
    between = names[2 : len(names) - normalize]
    known = names[:2] == ["Transformer", "Pooling"] and set(between) <= {"Dense"}
    require(known, path, f"modules {' + '.join(names)} are", [_SUPPORTED])
    dense, width = [], hidden
    for _, place in modules[2 : 2 + len(between)]:
        dense.append(_read_dense(place, width=width))
        width = dense[-1].out
    return Modules(_read_pooling(modules[1][1] / "config.json"), tuple(dense), normalize)


def _read_pooling(path: Path) -> str:
    config = read_config(path, expected="the pooling mode")
    if config.get("include_prompt", True) is not True:
        raise config.refuse("include_prompt false is not supported: prompts are pooled with the text here")
    modes = sorted(k for k, on in config.values.items() if k.startswith("pooling_mode_") and on is True)
    if mode := config.get("pooling_mode"):  # newer releases write the mode's name, or several
        found = [mode] if isinstance(mode, str) else list(mode)
        modes = [flag for flag, name in POOLINGS.items() if found == [k for k in _MODES if _MODES[k] == name]]
        modes = modes or list(map(str, found))
    known = len(modes) == 1 and modes[0] in POOLINGS
    require(known, path, f"{' + '.join(modes) or 'no pooling'} is", POOLINGS)
    return POOLINGS[modes[0]]


def _read_dense(folder: Path, *, width: int) -> DenseModule:
    config = read_config(folder / "config.json", expected="the dense module's settings")
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = _DENSE_ACTIVATIONS.get(name.rpartition(".")[2], "")
    require(
        activation and name.startswith("torch."), config.path, f"activation {name} is", _DENSE_ACTIVATIONS
    )
    for key in ("module_input_name", "module_output_name"):
        config.require(key, "sentence_embedding", "sentence_embedding")
    config.require("use_residual", False, False)
    taken, given = config.integer("in_features"), config.integer("out_features")
    if taken != width:
        raise config.refuse(f"in_features {taken}, but what comes before it gives {width}")
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (given, taken)}
    if config.get("bias", True):
        shapes["linear.bias"] = (given,)
    return DenseModule(activation, read_weights(folder, expected=shapes), given)


def read_prompts(folder: Path) -> tuple[dict[str, str], str | None]:
    """Prompts by name, and the name of the default one, of config_sentence_transformers.json."""
    path = folder / "config_sentence_transformers.json"
    config = read_config(path, expected="prompts") if path.exists() else Config(path, {})
    prompts = config.get("prompts", {})
    if not isinstance(prompts, dict) or not all(isinstance(v, str | None) for v in prompts.values()):
        raise config.refuse("prompts is no object of texts; expected {name: text}")
    default = config.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise config.refuse(f"default_prompt_name {default!r} is not among the prompts {sorted(prompts)}")
    return {name: text or "" for name, text in prompts.items()}, default


def read_matryoshka(folder: Path, config: Config, *, dim: int) -> tuple[int, ...]:
    """Dimensions that vectors may be cut to, where the checkpoint states them."""
    extra = folder / "config_sentence_transformers.json"
    configs = [config, *([read_config(extra, expected="prompts")] if extra.exists() else [])]
    for each in configs:
        for key in ("matryoshka_dims", "matryoshka_dimensions"):
            found = each.get(key, [])
            if not isinstance(found, list) or not all(isinstance(d, int) and 0 < d <= dim for d in found):
                raise UsageError(f"{each.path}: {key} {found!r}; expected a list of numbers from 1 to {dim}")
            if found:
                return tuple(sorted(found))
    return ()
