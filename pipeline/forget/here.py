"""Documents looked for, and taken out of shards, by this process."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from pipeline.forget.shards import check_sound, look, take_out
from pipeline.run.screen import Told
from transforms.output.forgotten import Forgetting, by_hashes, by_ids, digest
from transforms.output.reader import Output


class Hands(Protocol):
    """Who reads and writes the shards' files."""

    def find(self, output: Output, ids: Sequence[str] | None, told: Told) -> tuple[dict[str, set[str]], int]:
        """Looks for documents: those of these ids, or those that were forgotten and are back.

        Returns:
          Digests of the ids that are there, by the shard that holds them; and how many dead letters are of
          records whose ids nobody could read.

        Raises:
          LedgerError: a shard that is read, or is to be rewritten, is damaged. Nothing was changed.
        """

    def take_out(self, output: Output, begun: Forgetting, told: Told, *, resumed: bool) -> None:
        """Rewrites the shards of what was begun; when it is `resumed`, some may be done."""


class Here:
    """This process: shard by shard."""

    def __init__(self) -> None:
        self._found = set[str]()

    def find(self, output: Output, ids: Sequence[str] | None, told: Told) -> tuple[dict[str, set[str]], int]:
        job, receipts = output.plan.job, output.receipts
        gone = by_hashes(job, output.forgotten) if ids is None else by_ids(ids)
        holding, unreadable = dict[str, set[str]](), 0
        # A store answers slowly, and many at once; a disk is as fast as one reader.
        with ThreadPoolExecutor(1 if output.folder.local else 16) as threads:
            looked = threads.map(lambda receipt: look(output, receipt, gone), receipts)
            for number, (receipt, found) in enumerate(zip(receipts, looked, strict=True), 1):
                told(f"looking for the documents: {number:,} of {len(receipts):,} shards")
                unreadable += found.unreadable
                if found.ids:
                    holding[receipt.shard_id] = {digest(job, one) for one in found.ids}
                    self._found |= found.ids
        for receipt in receipts:
            if receipt.shard_id in holding:
                check_sound(output, receipt)
        return holding, unreadable

    def take_out(self, output: Output, begun: Forgetting, told: Told, *, resumed: bool) -> None:
        shards = set(begun.shards)
        # Ids are told apart faster than their digests; of what was begun earlier nobody has them.
        gone = by_hashes(begun.job, set(begun.hashes)) if resumed else by_ids(self._found)
        for number, receipt in enumerate([one for one in output.receipts if one.shard_id in shards], 1):
            told(f"taking documents out of shards: {number:,} of {len(shards):,}")
            take_out(output, receipt, gone, resumed=resumed)
