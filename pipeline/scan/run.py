"""A scan from its beginning, or from where it was, to its end: here, or as a Beam job."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence

from pipeline.cluster import remote
from pipeline.cluster.cluster import Cluster
from pipeline.cluster.preflight import prepare
from pipeline.cluster.probe import probe
from pipeline.options.options import Options
from pipeline.run.output import output_lock
from pipeline.run.screen import Screen, duration
from pipeline.scan.work import SCAN, Results, Scan, Work, source_of
from transforms.elements import ShardReceipt
from transforms.errors import LedgerError, UsageError
from transforms.output import layout
from transforms.output.folder import Folder
from transforms.output.ledger import contents
from transforms.output.reader import Output
from transforms.storage.files import full_path


def run_scan(
    output: Output,
    target: str,
    work: Work,
    args: argparse.Namespace,
    receipts: Sequence[ShardReceipt] | None = None,
    *,
    reads: Sequence[str] = (),
) -> Results:
    """Does a work with every committed part of an output; parts that are done are left as they are.

    Args:
      target: folder for the results: of this scan, of an earlier one with other choices (whose results are
        replaced), or none yet.
      args: with `add_scan`'s arguments, `beam_args` and `screen`.
      receipts: of the shards that matter, if not of all that are committed.
      reads: further paths that workers read.

    Raises:
      UsageError: the runner or its options cannot be used, or the folder holds something else.
      EmbedbeamError: the scan ran and something is wrong.
    """
    source, target = full_path(output.folder.path), full_path(target)
    receipts = output.receipts if receipts is None else receipts
    scan = Scan(source, output.plan.job, contents(receipts), target, work)
    cluster = prepare(
        Options(
            input=(source, *reads),
            output=target,
            runner=args.runner,
            shared_filesystem=args.shared_filesystem,
            beam_args=args.beam_args,
        )
    )
    folder = Folder(target)
    with output_lock(folder, "--to"):
        _begin(folder, scan)
        left = scan.left(receipts)
        if left:
            folder.delete(layout.SUCCESS)
            _do(scan, left, cluster, args.screen)
            left = scan.left(receipts)
        if left:  # another process began anew in the folder
            raise LedgerError(f"{target}: {len(left)} parts have no results; run the same command again")
        folder.sweep()
        folder.write(layout.SUCCESS, b"")
    parts = (r.shard_id for r in receipts if r.part is not None)
    return Results(folder, scan.identity, tuple(layout.part(one, ".parquet") for one in parts))


def _begin(folder: Folder, scan: Scan) -> None:
    """Makes the folder the scan's own."""
    said = json.loads(folder.read(SCAN) or b"null")
    if said is None:
        there = os.listdir(folder.path) if folder.local else list(folder.names())
        if foreign := sorted(name for name in there if name != layout.STATE):
            raise UsageError(
                f"{folder.path}: holds files that no {scan.work.name} wrote, e.g. {foreign[0]}; "
                "choose an empty or a new folder"
            )
    elif said["name"] != scan.work.name:
        raise UsageError(
            f"{folder.path}: holds the results of {said['name']}, not of {scan.work.name}; "
            "choose another folder"
        )
    if said is None or said["identity"] != scan.identity:
        folder.delete(layout.SUCCESS)
        folder.delete_files(layout.RECEIPTS)
        folder.delete_files("", which=layout.shard_of_part)
        record = {"identity": scan.identity, "name": scan.work.name, "output": scan.source, "job": scan.job}
        folder.write(SCAN, json.dumps(record | {"choices": dict(scan.work.choices)}, indent=1).encode())


def _do(scan: Scan, left: list[tuple[str, str]], cluster: Cluster, screen: Screen) -> None:
    if not cluster.is_local:
        with screen.doing("asking the cluster"):
            cluster = probe(cluster, screen)
            remote.RemoteJob(cluster).wait_for_twin(scan.target, screen.tell)
        with screen.doing("importing Beam"):
            from pipeline.cluster.submit import run_pipeline
            from pipeline.scan.steps import build_scan
    folder, began, before = Folder(scan.target), time.monotonic(), {one for one, _ in left}
    done = 0

    def line() -> str:
        there = done if cluster.is_local else len(before & folder.shards(layout.RECEIPTS))
        time_left = (time.monotonic() - began) / there * (len(left) - there) if there else None
        ends = "" if time_left is None else f", {duration(time_left)} left"
        return f"{scan.work.name}: {there} of {len(left)} parts{ends}"

    with screen.doing(line):
        if not cluster.is_local:
            run_pipeline(cluster, lambda root: build_scan(root, scan, left), wait=True)
            return
        output = source_of(scan.source, scan.job, scan.contents)
        for shard_id, part in left:
            scan.do(output, shard_id, part)
            done += 1
