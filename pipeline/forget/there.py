"""Documents looked for, and taken out of shards, by the workers of a cluster."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Collection, Iterator, Sequence

from pipeline.cluster import remote
from pipeline.cluster.cluster import Cluster
from pipeline.forget.work import Done, Errand
from pipeline.run.screen import Screen, Told
from transforms.errors import LedgerError
from transforms.output import layout
from transforms.output.folder import Folder
from transforms.output.forgotten import Forgetting, digest
from transforms.output.pending import unfinished
from transforms.output.reader import Output
from transforms.storage.files import full_path


class There:
    """A cluster: a Beam job for the look, and one for the shards that hold documents."""

    def __init__(self, cluster: Cluster, screen: Screen):
        self._cluster, self._screen = cluster, screen
        self._alone = False

    def find(self, output: Output, ids: Sequence[str] | None, told: Told) -> tuple[dict[str, set[str]], int]:
        job, shards = output.plan.job, [receipt.shard_id for receipt in output.receipts]
        hashes = output.forgotten if ids is None else {digest(job, one) for one in ids}
        errand = Errand(full_path(output.folder.path), job, uuid.uuid4().hex)
        done = self._send(errand, hashes, shards, told, "looking for the documents")
        for one in done.values():
            if one.wrong:
                raise LedgerError(one.wrong)
        holding = {shard_id: set(one.hashes) for shard_id, one in done.items() if one.hashes}
        return holding, sum(one.unreadable for one in done.values())

    def take_out(self, output: Output, begun: Forgetting, told: Told, *, resumed: bool) -> None:
        path = full_path(output.folder.path)
        errand = Errand(path, begun.job, uuid.uuid4().hex, takes_out=True, resumed=resumed)
        held = set(begun.shards)
        shards = [one.shard_id for one in output.receipts if one.shard_id in held]
        self._send(errand, begun.hashes, shards, told, "taking documents out of shards")

    def _send(
        self, errand: Errand, hashes: Collection[str], shards: Sequence[str], told: Told, doing: str
    ) -> dict[str, Done]:
        """Sends the workers to these shards, and waits. Returns what they say of each."""
        folder = Folder(errand.path)
        if not shards:
            return {}
        told("importing Beam")
        from pipeline.cluster.submit import run_pipeline
        from pipeline.forget.steps import build_errand

        if not self._alone:  # a launcher that died leaves its job behind
            remote.RemoteJob(self._cluster).wait_for_twin(errand.path, self._screen.tell)
            self._alone = True
        with _open(folder, errand):
            folder.write(errand.hashes, "\n".join(sorted(hashes)).encode())
            told(lambda: f"{doing}: {len(folder.shards(errand.folder)):,} of {len(shards):,} shards")
            run_pipeline(self._cluster, lambda root: build_errand(root, errand, shards), wait=True)
            done = {one: folder.record(errand.of(one), Done) for one in shards}
        told(doing)
        if missing := [one for one, said in done.items() if said is None]:
            raise LedgerError(
                f"{folder.path}: of {len(missing)} shards no worker says that it is done, e.g. {missing[0]}; "
                "run the same command again"
            )
        return {one: said for one, said in done.items() if said is not None}


@contextlib.contextmanager
def _open(folder: Folder, errand: Errand) -> Iterator[None]:
    """While the errand lasts; then nothing of it is left, and what late workers have begun is swept away."""
    with unfinished(folder.join(errand.folder)) if folder.local else contextlib.nullcontext():
        try:
            yield
        finally:
            folder.delete_folder(errand.folder)
            with contextlib.suppress(OSError):  # another one lies beside it, or this is a store
                os.rmdir(folder.join(layout.ERRANDS))
            folder.sweep()
