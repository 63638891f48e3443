"""sentence-transformers beside the job, in an environment of its own (torch is large); `make bench-peers`.

The peer gets its best batch size of several, its own sorting by length, and all cores; the job gets what a
user gets. Start-up is left out on both sides.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = Path(os.environ.get("EMBEDBEAM_PEERS", ROOT / "build" / "peers"))
# The release that made the golden set; torch comes with it.
PEER = "sentence-transformers==6.2.0"
DOCUMENTS = 1500
BATCH_SIZES = (8, 16, 32, 64)

_PEER_SCRIPT = """
import json, sys, time
import torch
from sentence_transformers import SentenceTransformer
dtype = getattr(torch, sys.argv[3])
model = SentenceTransformer(sys.argv[1], device="cpu", model_kwargs={"torch_dtype": dtype})
texts = [json.loads(line)["text"] for line in open(sys.argv[2], encoding="utf-8")]
best = None
for size in json.loads(sys.argv[4]):
    model.encode(texts[:64], batch_size=size)
    started = time.perf_counter()
    model.encode(texts, batch_size=size)
    seconds = time.perf_counter() - started
    best = min(best or (seconds, size), (seconds, size))
print(json.dumps({"seconds": best[0], "batch_size": best[1]}))
"""


def peer(checkpoint: Path, source: Path, dtype: str, sizes: list[int]) -> dict[str, float]:
    command = [
        ENVIRONMENT / "bin" / "python",
        "-c",
        _PEER_SCRIPT,
        checkpoint,
        source,
        dtype,
        json.dumps(sizes),
    ]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    own = ROOT / ".venv" / "bin" / "python"
    if (
        own.exists()
        and Path(sys.executable).resolve() != own.resolve()
        and "EMBEDBEAM_INSIDE" not in os.environ
    ):
        os.execve(own, [str(own), "-m", "benchmarks.peers"], os.environ | {"EMBEDBEAM_INSIDE": "1"})
    if not (ENVIRONMENT / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        subprocess.run([str(ENVIRONMENT / "bin" / "pip"), "install", "--quiet", PEER], check=True)
    from benchmarks.common import WORK, child, corpus, rounds, show
    from transforms.encoder.export.minilm import find_minilm_checkpoint

    source, output, checkpoint = corpus(DOCUMENTS), WORK / "peers", find_minilm_checkpoint()
    best = {dtype: peer(checkpoint, source, dtype, list(BATCH_SIZES)) for dtype in ("float32", "bfloat16")}

    def ours() -> float:
        shutil.rmtree(output, ignore_errors=True)
        return child("bench_job", "job", source, output)["seconds"]

    def theirs(dtype: str) -> float:
        return peer(checkpoint, source, dtype, [int(best[dtype]["batch_size"])])["seconds"]

    job, fp32, bf16 = rounds(3, ours, lambda: theirs("float32"), lambda: theirs("bfloat16"))
    sizes = {dtype: int(found["batch_size"]) for dtype, found in best.items()}
    show(f"sentence-transformers fp32 (batch {sizes['float32']}) / the job", fp32, job, ">= 1.3")
    show(f"sentence-transformers bf16 (batch {sizes['bfloat16']}) / the job", bf16, job, ">= 1.1")


if __name__ == "__main__":
    main()
