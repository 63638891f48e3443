"""Local clusters to try embedbeam on: real Flink and Spark on 127.0.0.1, without Docker.

python tools/clusters/clusters.py up {flink,spark,all} [--while PID]
python tools/clusters/clusters.py status
python tools/clusters/clusters.py down
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import fetch
from fetch import FetchError
from flink import FlinkCluster
from processes import StartError, last_lines
from spark import SparkCluster

RUN = fetch.CLUSTERS / "run"
KINDS = {"flink": FlinkCluster, "spark": SparkCluster}


def up(kind: str, owner: int | None) -> int:
    """Starts a cluster that outlives this command; a process of its own keeps it and ends it.

    Args:
        owner: A process with which the cluster ends; None where only `down` ends it.
    """
    state = read_state(kind)
    if state:
        print(f"{kind}: already up")
        print_endpoints(kind, state)
        return 0
    folder = RUN / kind
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state.json").unlink(missing_ok=True)
    log = folder / "keeper.log"
    with log.open("wb") as stream:
        keeper = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "keep", kind, *while_flags(owner)],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while (state := read_state(kind)) is None:
            if keeper.poll() is not None:
                print(f"error: {kind} did not start:\n{last_lines(log)}", file=sys.stderr)
                return 1
            time.sleep(0.2)
    except BaseException:
        keeper.terminate()  # it stops what it has started so far
        keeper.wait()
        raise
    keeper.stdin.write(b"up")
    keeper.stdin.close()
    print(f"{kind}: up")
    print_endpoints(kind, state)
    return 0


def while_flags(owner: int | None) -> list[str]:
    return [] if owner is None else [f"--while={owner}"]


def keep(kind: str, owner: int | None) -> int:
    """Holds a cluster until SIGTERM, or until its owner ends."""
    folder = RUN / kind
    threading.Thread(target=end_with_up, daemon=True).start()
    try:
        with KINDS[kind](folder) as cluster:
            state = {
                "keeper": os.getpid(),
                "processes": cluster.processes.pids(),
                "master": cluster.master,
                "web": cluster.web,
                "job_endpoint": cluster.job_endpoint,
                "artifact_endpoint": cluster.artifact_endpoint,
            }
            new = folder / "state.json.new"
            new.write_text(json.dumps(state, indent=1))
            new.rename(folder / "state.json")
            if owner is not None:
                select.select([os.pidfd_open(owner)], [], [])
                return 0
            while True:
                signal.pause()
    except (FetchError, StartError) as e:
        print(e)
        return 1
    finally:
        (folder / "state.json").unlink(missing_ok=True)


def end_with_up() -> None:
    """Ends the keeper if `up` is killed before the cluster is."""
    if not sys.stdin.buffer.read(2):
        os.kill(os.getpid(), signal.SIGTERM)


def down(kind: str) -> int:
    """Ends a cluster and waits until it is gone."""
    state = read_state(kind)
    if state is None:
        print(f"{kind}: not up")
        return 0
    if is_ours(state["keeper"], "clusters.py"):
        os.kill(state["keeper"], signal.SIGTERM)
        limit = time.monotonic() + 30
        while is_ours(state["keeper"], "clusters.py") and time.monotonic() < limit:
            time.sleep(0.1)
    for pid in running(state):  # the keeper itself was killed
        os.killpg(pid, signal.SIGKILL)
    (RUN / kind / "state.json").unlink(missing_ok=True)
    print(f"{kind}: down")
    return 0


def status(kind: str) -> int:
    state = read_state(kind)
    if state is None:
        print(f"{kind}: not up")
    else:
        print(f"{kind}: {len(running(state))} of {len(state['processes'])} processes run")
        print_endpoints(kind, state)
    return 0


def read_state(kind: str) -> dict | None:
    """The state of a cluster of which anything runs, else None."""
    try:
        state = json.loads((RUN / kind / "state.json").read_text())
    except (OSError, ValueError):
        return None
    return state if is_ours(state["keeper"], "clusters.py") or running(state) else None


def running(state: dict) -> list[int]:
    return [pid for pid in state["processes"] if is_ours(pid, str(fetch.CLUSTERS))]


def is_ours(pid: int, mark: str) -> bool:
    """Whether `pid` is a process with `mark` in its command line: after a reboot it may be someone else's."""
    try:
        return mark.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def print_endpoints(kind: str, state: dict) -> None:
    parallel = " --parallelism=4" if kind == "flink" else ""
    print(f"  master {state['master']}, web {state['web']}, logs in {RUN / kind / 'log'}")
    print(
        f"  embedbeam embed --input 'docs/*.jsonl' --output out/ --runner=PortableRunner"
        f" --job_endpoint={state['job_endpoint']} --artifact_endpoint={state['artifact_endpoint']}"
        f" --environment_type=LOOPBACK{parallel}"
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["up", "down", "status", "keep"], metavar="{up,down,status}")
    parser.add_argument("cluster", nargs="?", default="all", choices=[*KINDS, "all"])
    parser.add_argument(
        "--while", type=int, metavar="PID", dest="owner", help="end the cluster with this process"
    )
    asked = parser.parse_args(arguments)
    if asked.command == "keep" and asked.cluster == "all":
        parser.error("keep takes one cluster: flink or spark")
    kinds = list(KINDS) if asked.cluster == "all" else [asked.cluster]
    if asked.command in ("up", "keep"):
        start = up if asked.command == "up" else keep
        return max([start(kind, asked.owner) for kind in kinds])
    command = {"down": down, "status": status}[asked.command]
    return max([command(kind) for kind in kinds])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
