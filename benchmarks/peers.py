"""embedbeam beside its peers: same weights, documents and machine, in turn; `make bench-peers`.

Each peer runs in a fresh process, in rounds; what is told is its time over the job's of the same round.
Loading is left out on all sides. Every measurement is kept in benchmarks/results/peers.json as soon as it is
made: run again on the same machine with the same code, it goes on and adds rounds; elsewhere it begins anew.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "peers.json"
# torch is large: the peers have an environment of their own.
ENVIRONMENT = Path(os.environ.get("EMBEDBEAM_PEERS", ROOT / "build" / "peers"))
PACKAGES = (
    "sentence-transformers==6.2.0",  # the release that made the golden set; torch comes with it
    "onnxruntime==1.31.1",
    "onnx==1.23.2",
    "onnxscript",
    "datasets==5.2.0",
    "ray[data]==2.60.0",
    "daft==0.7.26",
)
TOLD = ("torch", "transformers", "tensorflow", "tensorflow-text", "tensorflow-hub", "apache-beam")
SIZES = (8, 16, 32, 64)


@dataclass(frozen=True)
class Peer:
    """One row of the table: what runs, on which of the two environments, and what is said of its threads."""

    name: str
    title: str
    threads: str
    model: str = "checkpoint"

    @property
    def beams(self) -> bool:
        return self.model != "checkpoint"

    @property
    def child(self) -> str:
        return self.name.removesuffix("-padded").removesuffix("-bfloat16") if self.beams else self.name


PEERS = (
    Peer("job", "embedbeam, float32", "a mini-batch on each core", "float32"),
    Peer("job-bfloat16", "embedbeam, bfloat16", "a mini-batch on each core", "bfloat16"),
    Peer("st-float32", "sentence-transformers, float32", "all cores for each"),
    Peer("st-bfloat16", "sentence-transformers, bfloat16", "all cores for each"),
    Peer("onnx-float32", "ONNX Runtime, float32, sorted", "all cores for each"),
    Peer("onnx-float32-each", "ONNX Runtime, float32, sorted", "a mini-batch on each core"),
    Peer("onnx-int8", "ONNX Runtime, int8, sorted", "all cores for each"),
    Peer("onnx-int8-each", "ONNX Runtime, int8, sorted", "a mini-batch on each core"),
    Peer("run-inference", "Beam RunInference, the same SavedModel", "all cores for each", "float32"),
    Peer("run-inference-padded", "Beam RunInference, padded SavedModel", "all cores for each", "padded"),
    Peer("ml-transform", "Beam MLTransform, the same SavedModel", "all cores for each", "float32"),
    Peer("datasets", "datasets.map, sentence-transformers", "all cores for each"),
    Peer("ray", "Ray Data, sentence-transformers", "all cores for each"),
    Peer("daft", "Daft, sentence-transformers", "all cores for each"),
)


def make_environment() -> None:
    """Makes the peers' environment; a package that does not install is missed by its peer alone."""
    if (ENVIRONMENT / "bin" / "python").exists():
        return
    subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    for package in PACKAGES:
        subprocess.run([str(ENVIRONMENT / "bin" / "pip"), "install", "--quiet", package], check=False)


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(said.get("flags", "").split())
    told = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")
    return {
        "cpu": said.get("model name", platform.processor()),
        "family": f"{said.get('cpu family')}.{said.get('model')}",
        "cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in told if flag in flags],
    }


def versions() -> dict[str, str]:
    script = (
        "import importlib.metadata as m, json, sys\n"
        "found = {}\n"
        "for name in sys.argv[1:]:\n"
        "    try: found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    names = [*(package.partition("==")[0].partition("[")[0] for package in PACKAGES), *TOLD]
    found: dict[str, str] = {"python": platform.python_version()}
    for python in (sys.executable, str(ENVIRONMENT / "bin" / "python")):
        done = subprocess.run([python, "-c", script, *names], capture_output=True, text=True, check=True)
        found |= json.loads(done.stdout)
    return dict(sorted(found.items()))


def measure(peer: Peer, models: dict[str, str], source: Path, work: Path, sizes: list[int]) -> dict[str, Any]:
    """One run of a peer: its seconds and size, its vectors in WORK/PEER.npy; or the error that it died of."""
    if peer.beams:
        command = [sys.executable, "-m", "benchmarks.peers_beam", peer.child]
    else:
        command = [str(ENVIRONMENT / "bin" / "python"), "benchmarks/peers_others.py", peer.child]
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "DO_NOT_TRACK": "1",
        "EMBEDBEAM_CACHE": str(work / "cache"),  # where nothing is tuned: the job as it is out of the box
    }
    (work / "vectors.npy").unlink(missing_ok=True)
    command += [models[peer.model], str(source), str(work), json.dumps(sizes)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | quiet, capture_output=True, text=True, timeout=600
        )
    except subprocess.TimeoutExpired:
        return {"error": "did not end within 10 minutes"}
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        return {"error": (said[-1] if said else f"exit status {done.returncode}")[:300]}
    (work / "vectors.npy").replace(work / f"{peer.name}.npy")
    return json.loads(done.stdout.splitlines()[-1])


def worst_cosine(work: Path, name: str) -> float | None:
    """The smallest cosine of a peer's vectors to sentence-transformers' in float32."""
    import numpy as np

    paths = [work / f"{name}.npy", work / "st-float32.npy"]
    if not all(path.exists() for path in paths):
        return None
    a, b = (np.load(path).astype(np.float64) for path in paths)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / lengths).min())


def prepare(documents: int, work: Path) -> tuple[Path, dict[str, str]]:
    from benchmarks.common import corpus
    from benchmarks.padded import save_padded
    from transforms.encoder.export.minilm import ensure_minilm, find_minilm_checkpoint
    from transforms.encoder.model.handle import cache_dir

    rows = [json.loads(line) for line in corpus(documents).read_text(encoding="utf-8").splitlines()]
    source = work / f"documents-{documents}.jsonl"
    source.write_text(
        "".join(json.dumps({"n": str(n), "text": row["text"]}) + "\n" for n, row in enumerate(rows))
    )
    checkpoint = find_minilm_checkpoint()
    models = {kind: str(ensure_minilm(cache_dir(), precision=kind)) for kind in ("float32", "bfloat16")}
    return source, models | {"checkpoint": str(checkpoint), "padded": str(save_padded(work / "padded"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15, help="no measurement begins after so many")
    parser.add_argument("--rounds", type=int, default=3, help="at most so many rounds more than are stored")
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--only", nargs="*", help="names of peers; the job is measured always")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    deadline = time.monotonic() + 60 * given.minutes
    make_environment()
    work = ROOT / "build" / "bench" / "peers"
    work.mkdir(parents=True, exist_ok=True)
    source, models = prepare(given.documents, work)
    from transforms.encoder.model.handle import digest

    found = {
        "machine": machine(),
        "versions": versions(),
        "model": digest(Path(models["float32"])),
        "corpus": {"documents": given.documents, "sha256": hashlib.sha256(source.read_bytes()).hexdigest()},
    }
    stored = json.loads(given.results.read_text()) if given.results.exists() else {}
    if any(stored.get(key) != value for key, value in found.items()):
        for path in work.glob("*.npy"):
            path.unlink()
        stored = found | {"peers": {}}
    for row in stored["peers"].values():
        row.pop("error", None)  # tried again
    chosen = [peer for peer in PEERS if not given.only or peer.name in ("job", *given.only)]
    done = max((len(row["seconds"]) for row in stored["peers"].values()), default=0)
    for number in range(
        min((len(_row(stored, p)["seconds"]) for p in chosen), default=0), done + given.rounds
    ):
        for peer in chosen:
            row = _row(stored, peer)
            if len(row["seconds"]) > number or row.get("error"):
                continue
            if time.monotonic() > deadline:
                print(f"{given.minutes:g} minutes are over; run it again to go on")
                return
            sizes = [row["size"]] if "size" in row else [0] if peer.name.startswith("job") else list(SIZES)
            result = measure(peer, models, source, work, sizes)
            if "error" in result:
                row["error"] = result["error"]
            else:
                row["size"] = result["size"]
                row["seconds"].append(round(result["seconds"], 3))
            stored["date"] = datetime.date.today().isoformat()
            stored["peers"][peer.name] = row
            for name, known in stored["peers"].items():
                known["cosine"] = worst_cosine(work, name)
            _store(given.results, stored)
            print(
                f"round {number + 1}: {peer.title}, {peer.threads}: {row.get('error') or result}", flush=True
            )
    shutil.rmtree(work / "job", ignore_errors=True)


def _row(stored: dict[str, Any], peer: Peer) -> dict[str, Any]:
    return stored["peers"].get(peer.name, {"title": peer.title, "threads": peer.threads, "seconds": []})


def _store(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1) + "\n")
    part.replace(path)


if __name__ == "__main__":
    main()
