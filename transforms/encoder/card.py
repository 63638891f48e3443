"""What lies beside a model that `export` made: what its signatures do not say, and its tokenizer."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from pathlib import Path

from transforms.encoder.config import ModelConfig
from transforms.encoder.messages import model_error
from transforms.errors import UsageError

_EXTRA = "assets.extra"


@dataclasses.dataclass(frozen=True)
class Card:
    """The embedbeam.json of a model; most models have none.

    Attributes:
      max_tokens: the window, special tokens included.
      prompts: texts that come before what is embedded, by name.
      default_prompt: name of the one that is used where none is asked for.
      tokenizer: the tokenizer.json that makes the ids which the model takes.
    """

    max_tokens: int | None = None
    prompts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default_prompt: str | None = None
    tokenizer: Path | None = None


def read_card(folder: str | Path, handle: str) -> Card:
    """The card of the model in a folder.

    Raises:
      UsageError: it cannot be read.
    """
    tokenizer, about = (Path(folder, _EXTRA, name) for name in ("tokenizer.json", "embedbeam.json"))
    found = tokenizer if tokenizer.is_file() else None
    if not about.is_file():
        return Card(tokenizer=found)
    try:
        fields = json.loads(about.read_bytes())
        prompts = {str(name): str(text) for name, text in (fields.get("prompts") or {}).items()}
        return Card(fields.get("max_tokens"), prompts, fields.get("default_prompt"), found)
    except (ValueError, AttributeError) as e:
        reason = f"its {_EXTRA}/{about.name} cannot be read ({e}); export the model again"
        raise model_error(handle, reason) from e


def with_prompt(config: ModelConfig, card: Card, signatures: Collection[str]) -> ModelConfig:
    """The config with the prompt as the text that comes before each document, or as the signature it names.

    Raises:
      UsageError: it is a name that the model does not have.
    """
    if config.signature in card.prompts:  # it has the prompt in its graph
        if config.prompt:
            reason = f"signature {config.signature} has a prompt already; give one of the two"
            raise UsageError(f"prompt {config.prompt}: {reason}", argument="prompt")
        return dataclasses.replace(config, prompt=None)
    name = config.prompt if config.prompt is not None else card.default_prompt
    if not name:
        return dataclasses.replace(config, prompt=None)
    if name in card.prompts:
        return dataclasses.replace(config, prompt=card.prompts[name])
    if name in signatures and not config.signature:
        return dataclasses.replace(config, prompt=None, signature=name)
    if name[-1].isalnum():  # it would be glued to the document's first word
        has = ", ".join(sorted(card.prompts)) or "none"
        reason = f"the model has no such prompt; it has: {has}; a text of your own ends in a space or a sign"
        raise UsageError(f"prompt {name}: {reason}", argument="prompt")
    return config
