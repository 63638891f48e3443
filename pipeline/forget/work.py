"""What a worker elsewhere does with a shard, and what it leaves for the launcher; digests of ids alone."""

from __future__ import annotations

import dataclasses
import functools

from pipeline.forget.shards import check_sound, look, take_out
from pipeline.scan.work import source_of
from transforms.errors import LedgerError
from transforms.output import layout, ledger
from transforms.output.folder import Folder, to_json
from transforms.output.forgotten import Gone, by_hashes, digest
from transforms.output.pending import committing


@dataclasses.dataclass(frozen=True)
class Done:
    """Says that a worker is done with a shard.

    Attributes:
      hashes: digests of the ids that it holds, of those that are looked for.
      unreadable: as of `Look`.
      wrong: why nothing may be changed; empty where all is well.
    """

    hashes: list[str] = dataclasses.field(default_factory=list)
    unreadable: int = 0
    wrong: str = ""


@dataclasses.dataclass(frozen=True)
class Errand:
    """What the workers are sent for: to look for documents, or to take them out.

    The digests of the ids lie in a folder of its own, which the launcher deletes when the errand is over: a
    worker that was thought dead, and comes late, finds none, and changes nothing.

    Attributes:
      path, job: of the output.
      name: no other errand has it.
      takes_out: else it looks.
      resumed: whether some shards may be done already.
    """

    path: str
    job: str
    name: str
    takes_out: bool = False
    resumed: bool = False

    @property
    def folder(self) -> str:
        """Of the digests, and of what is done."""
        return f"{layout.ERRANDS}/{self.name}"

    @property
    def hashes(self) -> str:
        return f"{self.folder}/hashes"

    def do(self, shard_id: str) -> None:
        """Does a shard, and then says so.

        Raises:
          LedgerError: the errand is over, or the folder is another job's by now.
        """
        output = source_of(self.path, self.job, self.name)
        folder, gone = output.folder, _gone(self)
        receipt = ledger.committed(folder, shard_id, self.job)
        if receipt is None:
            raise LedgerError(f"shard {shard_id}: its receipt is gone; run the same command again")
        done = Done()
        if self.takes_out:

            def still() -> bool:  # else another attempt was faster
                self.check(folder)
                return ledger.committed(folder, shard_id, self.job) == receipt

            take_out(output, receipt, gone, resumed=self.resumed, still=still)
        else:
            try:
                found = look(output, receipt, gone)
                if found.ids:
                    check_sound(output, receipt)
                done = Done(sorted(digest(self.job, one) for one in found.ids), found.unreadable)
            except LedgerError as e:  # repeating it would not help
                done = Done(wrong=str(e))
        # Begun before the check, as a part is: what is begun when the errand ends is swept away.
        with committing(folder.create(self.of(shard_id))) as pending:
            pending.write(to_json(done))
            self.check(folder)

    def of(self, shard_id: str) -> str:
        """Name of the file that says that a shard is done."""
        return f"{self.folder}/{shard_id}.json"

    def check(self, folder: Folder) -> None:
        """Raises LedgerError when the errand is over."""
        if folder.read(self.hashes, 1) is None:
            raise LedgerError(f"{folder.path}: a late worker: what it was sent for is done, or was given up")


@functools.lru_cache(maxsize=2)
def _gone(errand: Errand) -> Gone:
    folder = Folder(errand.path)
    errand.check(folder)
    return by_hashes(errand.job, frozenset((folder.read(errand.hashes) or b"").decode().split()))
