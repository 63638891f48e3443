"""The boot command and the worker pool: how an SDK worker comes to life without Docker."""

import argparse
import concurrent.futures
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import jobs
import pytest
from apache_beam.portability.api import (
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    beam_runner_api_pb2,
    endpoints_pb2,
)

from pipeline.cluster import boot, worker_pool

OPTIONS = {"beam:option:job_name:v1": "job", "beam:option:experiments:v1": ["a"]}


def info_of(dependencies=(), **endpoints):
    info = beam_provision_api_pb2.ProvisionInfo(runner_capabilities=["c1", "c2"])
    info.pipeline_options.update(OPTIONS)
    for name, url in endpoints.items():
        getattr(info, f"{name}_endpoint").CopyFrom(endpoints_pb2.ApiServiceDescriptor(url=url))
    for name in dependencies:
        payload = beam_runner_api_pb2.ArtifactStagingToRolePayload(staged_name=name).SerializeToString()
        info.dependencies.add(role_payload=payload)
    return info


def parsed(control="", logging="", worker_id="1-1"):
    return argparse.Namespace(id=worker_id, control_endpoint=control, logging_endpoint=logging)


@pytest.mark.parametrize(
    ("arguments", "endpoints", "expected"),
    [
        ({}, {}, {}),
        (
            {},
            {"control": "h:1", "logging": "h:2", "status": "h:3"},
            {"CONTROL": 'url: "h:1"', "LOGGING": 'url: "h:2"', "STATUS": 'url: "h:3"'},
        ),
        # Flink and Spark provide no endpoints: they give them on the command line.
        (
            {"control": "a:1", "logging": "a:2"},
            {},
            {"CONTROL": 'url: "a:1"', "LOGGING": 'url: "a:2"'},
        ),
        ({"control": "a:1"}, {"control": "h:1"}, {"CONTROL": 'url: "h:1"'}),
    ],
)
def test_environment(arguments, endpoints, expected):
    found = boot.environment(parsed(**arguments), info_of(**endpoints), {})
    assert json.loads(found.pop("PIPELINE_OPTIONS")) == OPTIONS
    services = {f"{name}_API_SERVICE_DESCRIPTOR": text for name, text in expected.items()}
    assert found == {"WORKER_ID": "1-1", "RUNNER_CAPABILITIES": "c1 c2", **services}


@pytest.mark.parametrize(
    ("worker_id", "before", "gpu"),
    [
        ("1-1", {}, None),
        ("1-1", {"EMBEDBEAM_WORKER_GPUS": "0"}, None),
        ("1-2", {"EMBEDBEAM_WORKER_GPUS": "1"}, None),  # the only one is everybody's
        ("1-1", {"EMBEDBEAM_WORKER_GPUS": "4"}, "0"),
        ("1-4", {"EMBEDBEAM_WORKER_GPUS": "4"}, "3"),
        ("1-5", {"EMBEDBEAM_WORKER_GPUS": "4"}, "0"),
        ("1-2", {"EMBEDBEAM_WORKER_GPUS": "4", "CUDA_VISIBLE_DEVICES": "7"}, None),  # the machine's own word
        ("1-2", {"EMBEDBEAM_WORKER_GPUS": "4", "CUDA_VISIBLE_DEVICES": ""}, None),
    ],
)
def test_gpu_of_a_worker(worker_id, before, gpu):
    found = boot.environment(parsed(worker_id=worker_id), info_of(), before)
    assert found.get("CUDA_VISIBLE_DEVICES") == gpu


def test_gpus_are_taken_in_turn():
    assert [boot.gpu_of(f"1-{n}", 4) for n in range(1, 7)] == [0, 1, 2, 3, 0, 1]
    assert [boot.gpu_of(name, 2) for name in ("external_2", "sdk-3", "worker")] == [1, 0, 0]


def test_staged_packages():
    own = "submission_environment_dependencies.txt"
    assert boot.staged_packages(info_of()) == []
    assert boot.staged_packages(info_of([own, ""])) == []
    assert boot.staged_packages(info_of([own, "workflow.tar.gz", "x.whl"])) == ["workflow.tar.gz", "x.whl"]


@contextlib.contextmanager
def provision_service(info):
    """A real provision service on loopback; yields its address and the worker ids that asked."""
    asked = []

    class Service(beam_provision_api_pb2_grpc.ProvisionServiceServicer):
        def GetProvisionInfo(self, request, context):
            asked.append(dict(context.invocation_metadata())["worker_id"])
            return beam_provision_api_pb2.GetProvisionInfoResponse(info=info)

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    beam_provision_api_pb2_grpc.add_ProvisionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", asked
    finally:
        server.stop(0).wait()


# The process that becomes the worker: a program that prints what it was given, in place of this Python.
PROGRAM = """#!{python}
import json, os, sys
kept = {{k: v for k, v in os.environ.items() if k == "WORKER_ID" or k.isupper() and "_API_" in k
        or k in ("PIPELINE_OPTIONS", "RUNNER_CAPABILITIES", "CUDA_VISIBLE_DEVICES")}}
print(json.dumps([sys.argv[1:], kept]))
"""
BOOT = "import sys; from pipeline.cluster import boot; sys.executable = sys.argv.pop(1); boot.main()"


def test_the_worker_gets_what_the_runner_provides(tmp_path):
    program = tmp_path / "python"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    environment = {k: v for k, v in jobs.environment().items() if k != "CUDA_VISIBLE_DEVICES"}
    environment["EMBEDBEAM_WORKER_GPUS"] = "2"
    with provision_service(info_of(["workflow.tar.gz"], control="h:1")) as (address, asked):
        flags = ["--id=1-2", f"--provision_endpoint={address}", "--logging_endpoint=h:2"]
        # Runners give options that not every worker needs.
        flags += ["--artifact_endpoint=h:3", "--semi_persist_dir=/tmp"]
        done = subprocess.run(
            [sys.executable, "-c", BOOT, program, *flags],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stdout) == (0, "")  # the pool reads nobody's standard output
    assert asked == ["1-2"]
    *_, said, printed = done.stderr.splitlines()  # a library may warn first
    assert said == "embedbeam-boot: staged packages are not installed; they must be on this machine"
    arguments, found = json.loads(printed)
    assert arguments == ["-m", "apache_beam.runners.worker.sdk_worker_main"]
    assert json.loads(found.pop("PIPELINE_OPTIONS")) == OPTIONS
    assert found == {
        "WORKER_ID": "1-2",
        "RUNNER_CAPABILITIES": "c1 c2",
        "CONTROL_API_SERVICE_DESCRIPTOR": 'url: "h:1"',
        "LOGGING_API_SERVICE_DESCRIPTOR": 'url: "h:2"',
        "CUDA_VISIBLE_DEVICES": "1",
    }


def test_nobody_provides(monkeypatch, free_port):
    monkeypatch.setattr(boot, "_SECONDS", 0.5)
    with pytest.raises(SystemExit) as ended:
        boot.main(["--id=1-1", f"--provision_endpoint=127.0.0.1:{free_port}"])
    text = str(ended.value.code)  # a text: Python prints it and ends with exit code 1
    assert text.startswith(f"embedbeam-boot: worker 1-1: no answer from 127.0.0.1:{free_port}: ")
    assert text.endswith(": Deadline Exceeded")


def test_the_boot_command_is_beside_this_python():
    from pipeline.cluster.runners import boot_command

    command = Path(boot_command())
    assert command == Path(sys.executable).parent / "embedbeam-boot"
    assert os.access(command, os.X_OK)


# The worker pool.

POOL = [jobs.PYTHON, "-m", "pipeline.cluster.worker_pool"]


def test_a_pool_ends_at_sigterm(free_port):
    with jobs.start(*POOL, f"--port={free_port}") as process:
        line = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert line == f"embedbeam-worker-pool: listening on 127.0.0.1:{free_port}\n"
    assert (process.returncode, out, err) == (0, "", "")


def test_a_pool_that_is_told_to_end_as_soon_as_it_speaks():
    """The signal comes before the line has left the process: nobody may be told of it too early."""
    code = (
        "import os, signal, sys; from pipeline.cluster import worker_pool\n"
        "class Heard:\n"
        "    def write(self, text): os.kill(os.getpid(), signal.SIGTERM); sys.__stderr__.write(text)\n"
        "    def flush(self): sys.__stderr__.flush()\n"
        "sys.stderr = Heard()\n"
        "sys.exit(worker_pool.main(['--port=0']))"
    )
    done = jobs.run(jobs.PYTHON, "-c", code)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("embedbeam-worker-pool: listening on 127.0.0.1:")


def test_a_pool_whose_port_is_taken(capfd):
    """Two pools on a port would each get half of the requests."""
    server, _, address = worker_pool.serve("127.0.0.1:0", use_process=False)
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert worker_pool.main([f"--port={address.rpartition(':')[2]}"]) == 2
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
        server.stop(0).wait()
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("embedbeam")]
    assert lines == [f"embedbeam-worker-pool: cannot listen on {address}; is another pool running there?"]
