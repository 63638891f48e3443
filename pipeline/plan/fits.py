"""Whether files can hold what the model takes, as far as their names tell: before a worker starts."""

from __future__ import annotations

from pipeline.options.options import Options
from pipeline.plan.plan import Plan, find_files
from transforms import modality
from transforms.errors import UsageError
from transforms.formats import registry
from transforms.modality import Modality

# Formats whose records have fields, and none of bytes.
_WITHOUT_BYTES = ("jsonl", "csv", "tsv")


def guessed(options: Options) -> str:
    """The modality of files where no model was asked: that which all their formats hold alone, else text."""
    held = {registry.get(file.format).holds for file in find_files(options, None)[1]}
    return held.pop() if len(held) == 1 and held <= {*modality.NAMES} else "text"


def check_files(plan: Plan, of: Modality, near: float | None = None) -> None:
    """Refuses files that can hold nothing of the model's, and a search for near duplicates that cannot be.

    Raises:
      UsageError: names the first of the files; or as of `check_near`.
    """
    if near is not None:
        from pipeline.duplicates.find import check_near

        check_near(near, of.name)
    if of.kind != "bytes":
        return
    for piece in (piece for shard in plan.shards for piece in shard.slices):
        if piece.format in _WITHOUT_BYTES:
            raise UsageError(
                f"input {piece.path}: {piece.format} files hold no bytes, and so no documents of "
                f"`modality` {of.name}, which is the model's or your choice; name other files, or give "
                "another `model`",
                argument="input",
            )
