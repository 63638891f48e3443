"""What many shards cost the launcher: the plan, the resume with a receipt for nearly each, and `status`.

The receipts are written here, not earned: the very bytes that a commit writes, beside part files of 100
bytes that no reader opens. What is resumed, listed, read and balanced is real.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any

from benchmarks.common import ROOT, WORK, child, peak_kib, show

SHARDS, FEW, LEFT = 100_000, 1_000, 8
HERE = WORK / "plan"
MODEL = WORK / "hash-model"


def arguments(shards: int) -> dict[str, Any]:
    """The job over a file of one document a shard, as keyword arguments of Options."""
    path = HERE / f"docs-{shards}.jsonl"
    line = '{"text": "document %07d of a file with very many shards"}\n'
    if not path.exists():
        path.write_text("".join(line % i for i in range(shards)))
    output = HERE / f"out-{shards}"
    return {"input": str(path), "output": str(output), "model": str(MODEL), "shard_bytes": len(line % 0)}


def timed(function: Any, *given: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    result = function(*given)
    return time.perf_counter() - started, result


def make(shards: int) -> None:
    """Child: plans, and writes the plan and all receipts but the last few."""
    from apache_beam import coders

    from pipeline.job import new_job, plan_file
    from pipeline.options.options import Options
    from pipeline.plan.plan import make_plan
    from pipeline.run.loading import load_encoder
    from pipeline.run.screen import Screen
    from transforms.elements import Shard
    from transforms.output import layout
    from transforms.output.folder import Folder
    from transforms.output.plan_file import job_in

    given = arguments(shards)
    options = Options(**given | {"input": (given["input"],)})
    encoder = load_encoder(options, Screen(quiet=True))
    before = peak_kib() / 1024
    seconds, plan = timed(make_plan, options)
    job = new_job(options, plan, (), encoder)
    coding, data = timed(plan_file, job, plan)
    grown = peak_kib() / 1024 - before
    assert len(plan.shards) == shards
    folder = Folder(options.output)
    folder.write(layout.PLAN, data)
    identity = job_in(data) or ""
    for shard in plan.shards[:-LEFT]:
        write_receipt(folder, identity, shard.shard_id)
    coder = coders.registry.get_coder(Shard)
    result = {"plan": seconds, "file": coding, "grown": grown, "bytes": len(data) / shards}
    print(json.dumps(result | {"coded": len(coder.encode(plan.shards[-1]))}))


def write_receipt(folder: Any, job: str, shard_id: str) -> None:
    """What a commit leaves of a shard of one document, without its syncs and renames."""
    from transforms.elements import ShardReceipt
    from transforms.output import layout
    from transforms.output.folder import to_json

    part, digest = layout.part(shard_id, ".parquet"), "0" * 64
    receipt = ShardReceipt(
        job, shard_id, 1, 1, {}, 12, 0, part, 100, digest, None, 1.8e9, 1.8e9 + 1, "worker-0.example", 4711
    )
    for name, data in ((part, b"." * 100), (layout.receipt(shard_id), to_json(receipt))):
        os.makedirs(os.path.dirname(folder.join(name)), exist_ok=True)
        with open(folder.join(name), "wb") as f:
            f.write(data)


def resume(shards: int) -> None:
    """Child: goes on with the job to its end."""
    from pipeline import embed

    began = time.time()
    embed(**arguments(shards), quiet=True)
    print(json.dumps({"began": began, "ended": time.time(), "peak": peak_kib() / 1024}))


def pieces(shards: int) -> None:
    """Child: what a resume and `status` consist of, one by one."""
    from pipeline.job import parse_plan
    from pipeline.options.options import Options
    from pipeline.run.finish import Books
    from transforms.output import layout, ledger
    from transforms.output.folder import Folder

    folder = Folder(arguments(shards)["output"])
    found: dict[str, float] = {}
    found["list receipts"], _ = timed(folder.names, layout.RECEIPTS)
    found["read the plan"], (job, planned) = timed(parse_plan, folder.read(layout.PLAN), "plan")
    found["read receipts"], receipts = timed(ledger.read_receipts, folder, job.identity)
    books = Books(folder, job, planned, Options(**arguments(shards)))
    found["balance"], _ = timed(books.balance, receipts)
    receipt_bytes = sum(folder.names(layout.RECEIPTS).values()) / shards
    print(json.dumps({"seconds": found, "peak": peak_kib() / 1024, "receipt_bytes": receipt_bytes}))


def status_seconds(shards: int) -> float:
    command = [sys.executable, "-m", "pipeline", "status", arguments(shards)["output"]]
    seconds, done = timed(lambda: subprocess.run(command, cwd=ROOT, capture_output=True, text=True))
    assert f"{shards} of {shards} committed" in done.stdout, done.stdout + done.stderr
    return seconds


def measure(shards: int) -> dict[str, float]:
    """One job of so many shards: planned, resumed, looked at."""
    made = child("bench_plan", "make", str(shards))
    done = child("bench_plan", "resume", str(shards))
    looked = child("bench_plan", "pieces", str(shards))
    receipts = HERE / f"out-{shards}" / "_embedbeam" / "receipts"
    last = sorted(receipts.iterdir(), key=lambda path: path.stat().st_mtime)[-LEFT:]
    first = min(json.loads(path.read_text())["started"] for path in last)
    print(f"{shards:,} shards:")
    print(f"  plan {made['plan']:.1f} s, its file {made['file']:.1f} s, {made['bytes']:.0f} bytes a shard")
    print(f"  a shard in the shuffle: {made['coded']} bytes; a receipt: {looked['receipt_bytes']:.0f} bytes")
    print(
        f"  launcher's memory grown by the plan: {made['grown']:.0f} MiB; peak of a resume {done['peak']:.0f}"
    )
    print(
        "  " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in looked["seconds"].items()), flush=True
    )
    spent = done["ended"] - done["began"]
    return {
        "first": first - done["began"],
        "whole": spent,
        "peak": done["peak"],
        "status": status_seconds(shards),
    }


def main() -> None:
    from tests.models import save_hash_model

    if not MODEL.exists():
        save_hash_model(MODEL, window=None)
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir(parents=True)
    many, few = measure(SHARDS), measure(FEW)
    for name, key in (("to the first shard", "first"), ("to the end", "whole")):
        print(f"resume {name}: {many[key]:.1f} s; with {FEW:,} shards {few[key]:.1f} s (goal < 30)")
    print(f"status: {many['status']:.1f} s; with {FEW:,} shards {few['status']:.1f} s")
    show(f"peak RSS of a resume at {SHARDS:,} shards / at {FEW:,}", [many["peak"]], [few["peak"]], "none")
    shutil.rmtree(HERE)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        {"make": make, "resume": resume, "pieces": pieces}[sys.argv[1]](int(sys.argv[2]))
