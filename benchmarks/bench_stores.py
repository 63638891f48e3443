"""Requests to an object store: of a job for each of its shards, and of listings, on the servers of the tests.

python -m benchmarks.bench_stores
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Iterator

from benchmarks.common import ROOT, WORK

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools" / "clusters")]

import jobs  # noqa: E402
import stores  # noqa: E402

SHARDS, LISTED = 40, 2_500
_REQUEST = re.compile(rb"(?:GET|HEAD|PUT|POST|DELETE) \S+ HTTP/1\.1\r\n")
_UPLOADED = re.compile(rb'"name": ?"([^"]+)"')  # Google's uploads say it in their first bytes
_KINDS = {
    "_embedbeam/attempts/": "attempt",
    "_embedbeam/receipts/": "receipt",
    "/part-": "part",
    "in/": "input",
}


class Counter:
    """Counts requests by method and by what they are about; a proxy's `trouble` that makes none."""

    def __init__(self) -> None:
        self.seen: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()

    def __call__(self, data: bytes) -> None:
        head = _REQUEST.match(data)
        if head is None:
            return
        method, target = head[0].decode().split()[:2]
        name = _UPLOADED.search(data)
        about = f"{target} {name[1].decode() if name else ''}".replace("%2F", "/")
        listing = "list-type" in target or ("/o?" in target and method == "GET")
        kind = "list" if listing else next((kind for text, kind in _KINDS.items() if text in about), "other")
        with self._lock:
            self.seen[f"{kind} {method}"] += 1

    def show(self, title: str, count: int) -> None:
        each = ", ".join(f"{kind} {number / count:.2f}" for kind, number in sorted(self.seen.items()))
        print(f"{title}: {self.seen.total() / count:.2f} ({each})", flush=True)


def measure(store: stores.Store, model: str) -> None:
    counter = Counter()
    with stores.Proxy(store.port, counter) as proxy:
        os.environ.update(store.environment(proxy.port), NO_GCE_CHECK="true")
        flags = store.flags(proxy.port)
        line = '{"id": "%03d", "text": "document %03d"}\n'
        store.put("in/a.jsonl", "".join(line % (i, i) for i in range(SHARDS)).encode())
        paths = ["--input", store.url("in/a.jsonl"), "--output", store.url("out"), "--model", model]
        cut = [f"--shard-bytes={len(line % (0, 0))}", "--id-field=id", "--quiet"]
        done = jobs.run(*jobs.EMBED, *paths, *cut, *flags)
        if done.returncode:
            raise RuntimeError(done.stderr)
        counter.show(f"{store.scheme}: a job, requests for each of {SHARDS} shards", SHARDS)
        for number in range(LISTED):
            store.put(f"many/_embedbeam/receipts/{number:06d}.json", b"{}")
        counter.seen.clear()
        from apache_beam.options.pipeline_options import PipelineOptions

        from transforms.output.folder import Folder
        from transforms.storage.files import use_options

        use_options(PipelineOptions(flags))
        for name in ("_embedbeam/receipts", ""):
            counter.seen.clear()
            started = time.perf_counter()
            found = Folder(store.url("many")).names(name)
            seconds = time.perf_counter() - started
            counter.show(
                f"{store.scheme}: names({name!r}) beside {LISTED} receipts: {len(found)} names, "
                f"{seconds:.2f} s, requests",
                1,
            )


@contextlib.contextmanager
def servers() -> Iterator[list[stores.Store]]:
    with stores.s3_server() as s3, stores.gcs_server(stores.gcs_binary()) as gs:
        yield [s3, gs]


def main() -> None:
    from models import save_hash_model

    model = WORK / "hash-model"
    if not model.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        save_hash_model(model)
    with servers() as running:
        for store in running:
            measure(store, str(model))


if __name__ == "__main__":
    main()
