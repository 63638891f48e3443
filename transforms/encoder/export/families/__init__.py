"""The architectures, a file each: `MODEL_TYPES` as config.json names them, and `read(config)`."""

from __future__ import annotations

from transforms.encoder.export.architecture import Architecture
from transforms.encoder.export.config import ADVICE, Config, require
from transforms.encoder.export.families import bert, decoder, distilbert, modernbert, mpnet, nomic, roberta

_ALL = (bert, distilbert, roberta, mpnet, modernbert, nomic, decoder)
_FAMILIES = {kind: family for family in _ALL for kind in family.MODEL_TYPES}
# Published with code of their own, which computes what the family here does.
_OWN_CODE_KNOWN = nomic.MODEL_TYPES


def read_architecture(config: Config) -> Architecture:
    """What config.json describes.

    Raises:
      UsageError: a model of a kind that the exporter cannot reproduce exactly.
    """
    kind = config.get("model_type")
    require(kind in _FAMILIES, config.path, f"model_type {kind!r} is", sorted(_FAMILIES), ADVICE)
    if "quantization_config" in config.values:
        method = (config.get("quantization_config") or {}).get("quant_method", "unknown")
        raise config.refuse(
            f"quantised weights ({method}) are not supported; export the model as it was before"
        )
    if "AutoModel" in config.get("auto_map", {}) and kind not in _OWN_CODE_KNOWN:
        found = f"{kind} with code of its own (auto_map), which may compute something else, is"
        require(False, config.path, found, _OWN_CODE_KNOWN, ADVICE)
    try:
        made_of = _FAMILIES[kind].read(config)
    except (TypeError, ValueError, AttributeError, KeyError) as e:
        raise config.refuse(f"no configuration of {kind}: {e}; expected it as `transformers` saves it") from e
    if made_of.heads % made_of.key_heads:
        raise config.refuse(f"{made_of.key_heads} key heads do not divide {made_of.heads} heads")
    return made_of
