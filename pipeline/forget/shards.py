"""What is done with one shard, here or by a worker: documents are looked for in its files, or taken out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from transforms.elements import ShardReceipt
from transforms.errors import LedgerError
from transforms.output import layout, ledger
from transforms.output.forgotten import Gone
from transforms.output.reader import Output
from transforms.output.rewrite import left_out_rows, letter_blocks, rewrite

_BLOCK = 65_536


@dataclasses.dataclass(frozen=True)
class Look:
    """What a look at a shard has found.

    Attributes:
      ids: of the documents that it holds, of those that are looked for.
      unreadable: dead letters of records whose ids nobody could read.
    """

    ids: set[str]
    unreadable: int


def look(output: Output, receipt: ShardReceipt, gone: Gone) -> Look:
    """Looks for documents in a shard's part, dead letters and left-out rows.

    Raises:
      DamagedPart: one of its files cannot be read.
    """
    ids, unreadable = set[str](), 0
    for block in output.part(receipt.part, ["doc_id"], block_rows=_BLOCK) if receipt.part else ():
        ids.update(block.column(0).filter(gone(block.column(0))).to_pylist())
    if receipt.left_out:
        table = left_out_rows(output, receipt)
        for column in (table["doc_id"].combine_chunks(), table["of"].combine_chunks()):
            ids.update(column.filter(gone(column)).drop_null().to_pylist())
    for _, letters, doc_ids in letter_blocks(output, receipt):
        out = gone(doc_ids)
        ids.update(doc_ids.filter(out).to_pylist())
        if output.job.get("id_field") is not None:
            rest = (letter for letter, yes in zip(letters, out.to_pylist(), strict=True) if not yes)
            unreadable += sum(one["doc_id"] == f"{one['source']}:{one['position']}" for one in rest)
    return Look(ids, unreadable)


def check_sound(output: Output, receipt: ShardReceipt) -> None:
    """Raises LedgerError where a shard that is to be rewritten is damaged: new files would hide that."""
    if not ledger.is_paired(output.folder, receipt):
        raise LedgerError(
            f"shard {receipt.shard_id}: its files are not what its receipt says; nothing was changed. "
            f"`embedbeam verify {output.folder.path}` tells more"
        )


def take_out(
    output: Output,
    receipt: ShardReceipt,
    gone: Gone,
    *,
    resumed: bool,
    still: Callable[[], bool] = lambda: True,
) -> None:
    """Takes documents out of a shard that holds some; when it is `resumed`, they may be gone already.

    Args:
      still: as of `rewrite`.
    """
    folder = output.folder
    if not resumed or look(output, receipt, gone).ids or not ledger.is_paired(folder, receipt):
        rewrite(output, receipt, gone, still)
        return
    if not receipt.dead_letters:  # of those that were the file may be there still
        folder.delete(layout.dead_letters(receipt.shard_id))
    if not receipt.left_out:
        folder.delete(layout.duplicates(receipt.shard_id))
