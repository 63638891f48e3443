"""Whether files can hold what the model takes, as far as their names tell: before a worker starts."""

from __future__ import annotations

from pipeline.plan.plan import Plan
from transforms import modality
from transforms.errors import UsageError
from transforms.modality import Modality

_VALUES = ("text", "tokens", "tabular")
# What files of a format may hold; those that are not here may hold anything.
_HOLD = {
    **dict.fromkeys(("lines", "txt", "wet", "warc"), ("text",)),
    **dict.fromkeys(("jsonl", "csv", "tsv"), _VALUES),
    "image": ("image",),
    "audio": ("audio",),
}


def guessed(plan: Plan) -> str:
    """The modality of files where no model was asked: that of their format, if all are of one that tells."""
    held = {_HOLD.get(piece.format, _VALUES) for shard in plan.shards for piece in shard.slices}
    (name, *others), *more = held
    return name if not others and not more and name in modality.NAMES else "text"


def check_files(plan: Plan, of: Modality) -> None:
    """Refuses files that can hold nothing of the model's.

    Raises:
      UsageError: names the first of them.
    """
    for piece in (piece for shard in plan.shards for piece in shard.slices):
        held = _HOLD.get(piece.format, (of.name,))
        if of.name not in held:
            advice = "give a model of the files' kind"
            if of.kind == "bytes":
                advice += f", or files of {of.name} (`input_format` {of.name} takes no others from a folder)"
            raise UsageError(
                f"input {piece.source}: {piece.format} files hold {held[0]}, and the model takes {of.name}: "
                f"{advice}",
                argument="input",
            )
