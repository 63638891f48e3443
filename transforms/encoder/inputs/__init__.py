"""What models take, one file a modality. A new one is a file here, and a line in `_WHERE`."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

from transforms.encoder.card import read_card
from transforms.encoder.config import ModelConfig
from transforms.encoder.inputs.image import is_image
from transforms.encoder.inputs.protocol import ModelInput
from transforms.encoder.messages import model_error
from transforms.encoder.signature import described, takes_ids, tensors
from transforms.errors import UsageError

__all__ = ["ModelInput", "check_options", "modality_of", "model_input"]

# Its class, or what makes one, by modality; imported when it is used.
_WHERE = {
    "text": "text.text_input",
    "image": "image.image_input",
    "audio": "audio.AudioInput",
    "tabular": "tabular.TabularInput",
    "tokens": "tokens.TokenInput",
}
# The options that each understands, besides those of all.
_OPTIONS = {
    "text": ("preprocessor", "seq_length", "prompt"),
    "image": ("image_size", "image_range", "image_resize", "image_interpolation"),
    "audio": ("sample_rate", "window_seconds", "overlap_seconds", "audio_normalize"),
    "tabular": ("column", "nulls"),
}


def model_input(tf: Any, loaded: Any, function: Any, signature: str, config: ModelConfig) -> ModelInput:
    """How payloads become what a function of the model takes.

    Args:
      function: of a signature, or the model's own call.
      signature: its name.

    Raises:
      UsageError: the function does not take what the modality has, or tells of none.
    """
    name = config.modality or _of_card(config) or modality_of(tf, function)
    if name is None:
        takes = described(tensors(tf, function)[0]) or "nothing"
        reason = f"signature {signature} takes ({takes}), which does not tell what the documents are"
        raise model_error(
            config.handle,
            f"{reason}: choose another `signature`, say {_asked()} with `modality`, or name the "
            "`preprocessor` of texts that goes with it",
        )
    module, _, cls = _WHERE[name].partition(".")
    made: ModelInput = getattr(importlib.import_module(f"transforms.encoder.inputs.{module}"), cls)(
        tf, loaded, function, signature, config
    )
    return made


def check_options(config: ModelConfig, name: str) -> None:
    """Refuses options that mean nothing for documents of a modality.

    Raises:
      UsageError: names the first of them.
    """
    fields = {field.name: field.default for field in dataclasses.fields(config)}
    for other, names in _OPTIONS.items():
        for option in names:
            value = getattr(config, option)
            if other != name and value != fields[option]:
                shown = " ".join(value) if isinstance(value, tuple) else value
                reason = f"is for models of {other}, and this one's documents are {name}; leave it out"
                raise UsageError(f"{option} {shown}: {reason}", argument=option)
    if config.seq_length is not None and config.preprocessor is None:
        reason = "is the preprocessor's, and no `preprocessor` is given"
        raise UsageError(f"seq_length {config.seq_length}: {reason}", argument="seq_length")


def _asked() -> str:
    *most, last = _WHERE
    return f"{', '.join(most)} or {last}" if most else last


def modality_of(tf: Any, function: Any) -> str | None:
    """The modality that a function's inputs tell of; None where they tell of none.

    One tensor of strings is text, one of floats [n, h, w, 3] (or 1) an image, one of floats [n] or
    [n, samples] with a name that says so sound; integers [n, tokens] are token ids, and a tensor [n] or
    [n, 1] for each of several names is a row of a table.
    """
    named = tensors(tf, function)[0]
    specs = list(named.values())
    if [spec.dtype for spec in specs] == [tf.string]:
        return "text"
    if len(specs) == 1 and is_image(specs[0]):
        return "image"
    if _is_sound(named):
        return "audio"
    # TF Hub's BERT: whoever has texts has left out its preprocessor.
    if takes_ids(tf, function):
        return None if "input_word_ids" in named else "tokens"
    if len(specs) > 1 and all(is_cell(spec) for spec in specs):
        return "tabular"
    return None


def _of_card(config: ModelConfig) -> str | None:
    """Models that come with what makes their input of texts take texts."""
    with_tokenizer = config.folder and read_card(config.folder, config.handle).tokenizer
    return "text" if config.preprocessor or with_tokenizer else None


def is_cell(spec: Any) -> bool:
    """Whether a tensor holds a number or a string of each row: [n] or [n, 1]."""
    return spec.shape.rank == 1 or (spec.shape.rank == 2 and spec.shape[1] == 1)


def _is_sound(named: dict[str, Any]) -> bool:
    """Floats [n], or [n, samples] by a name that says so, beside which may be a mask [n, samples]."""
    waves = {name: spec for name, spec in named.items() if "mask" not in name.lower() or is_cell(spec)}
    if len(waves) != 1 or not next(iter(waves.values())).dtype.is_floating:
        return False
    ((name, spec),) = waves.items()
    says_so = any(word in name.lower() for word in ("wave", "audio", "sound", "speech", "input_values"))
    return spec.shape.rank == 1 or (says_so and spec.shape.rank in (2, 3))
