"""What clusters said when something went wrong, and the one line that a user gets for it."""

import traceback

import apache_beam as beam
import grpc
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import ExternalEnvironment

from pipeline.cluster import failures, worker_pool
from pipeline.cluster.cluster import Cluster
from pipeline.cluster.failures import without_step
from pipeline.cluster.runners import boot_command
from pipeline.version import installed
from transforms.errors import (
    BadFileError,
    EmbedbeamError,
    JobFailed,
    LedgerError,
    ModelError,
    StoreError,
    UsageError,
    read_note,
)

POOL = "workers cannot be reached: with --environment_type=EXTERNAL"
DOCKER = "the workers' containers cannot be started: check the image's name"
BOOT = "the boot command of --environment_config does not start a worker"
DIED = "a worker died: the cluster's log says why"
SLOTS = "the cluster had too few free slots for --parallelism"
GRPC = "org.apache.beam.vendor.grpc.v1p69p0.io.grpc.StatusRuntimeException"


def plain_error(error, environment="PROCESS"):
    given = {"environment_type": environment}
    cluster = Cluster("PortableRunner", values=given, typed=frozenset(given))
    return failures.plain_error(error, cluster)


# Of clusters (the missing program: as the JVM says it), behind "Pipeline x_1 failed in state FAILED: ".
SEEN = [
    (
        "java.net.ConnectException: java.net.ConnectException: finishConnect(..) failed: Connection refused",
        POOL,
        "finishConnect(..) failed: Connection refused",
    ),
    (
        "java.io.IOException: Received exit code 125 for command 'docker run -d image'. stderr: "
        "docker: Cannot "
        "connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        DOCKER,
        "Received exit code 125 for command 'docker run -d image'. stderr: docker: Cannot connect "
        "to the Docker "
        "daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
    ),
    (
        "java.lang.IllegalStateException: Process died with exit code 1",
        BOOT,
        "Process died with exit code 1",
    ),
    (
        'java.io.IOException: Cannot run program "/x/boot": error=2, No such file or directory',
        BOOT,
        'Cannot run program "/x/boot": error=2, No such file or directory',
    ),
    (
        "java.util.concurrent.TimeoutException: Timeout has occurred: 60000 ms",
        SLOTS,
        "Timeout has occurred: ",
    ),
    (f"{GRPC}: {GRPC}: CANCELLED: client cancelled", DIED, "CANCELLED: client cancelled"),
    (
        "org.apache.flink.runtime.jobmaster.JobMasterException: TaskManager with id "
        "127.0.0.1:36659-073508 is no "
        "longer reachable.",
        DIED,
        "TaskManager with id 127.0.0.1:36659-073508 is no longer reachable.",
    ),
]


@pytest.mark.parametrize(("message", "meaning", "reason"), SEEN)
def test_what_clusters_say(message, meaning, reason):
    environment = {DOCKER: "DOCKER", POOL: "EXTERNAL"}.get(meaning, "PROCESS")
    found = plain_error(RuntimeError(f"Pipeline x_1 failed in state FAILED: {message}"), environment)
    assert type(found) is JobFailed
    assert str(found).startswith(meaning)
    assert f"({reason}" in str(found)
    assert "\n" not in str(found)
    assert "Exception:" not in str(found)


def test_an_advice_for_what_this_cluster_uses():
    """A worker's own words about docker are no sign of containers where there are none."""
    text = "Pipeline x_1 failed in state FAILED: java.lang.IllegalStateException: no module named dockerlib"
    assert str(plain_error(RuntimeError(text), "EXTERNAL")).startswith("no module named dockerlib (run with ")
    assert str(plain_error(RuntimeError(text), "DOCKER")).startswith(DOCKER)


def told(error):
    """The traceback that a worker hands to its runner, of an error that leaves a step of Beam's."""
    assert error._tagged_with_step  # what Beam asks then
    return "".join(traceback.format_exception(error))


def in_java(text):
    return (
        "Pipeline x_1 failed in state FAILED: java.lang.RuntimeException: Error received from SDK harness "
        f"for instruction 2: {text}\n"
        "\tat java.base/java.util.concurrent.CompletableFuture.get(CompletableFuture.java:396)\n"
    )


@pytest.mark.parametrize("text", ["--model m: the model refuses every document", "zwei\nZeilen: ü \"'\\ 漢"])
def test_our_own_error_in_a_java_trace(text):
    found = plain_error(RuntimeError(in_java(told(ModelError(text)))))
    assert (type(found), str(found)) == (ModelError, text)
    for kind in (LedgerError, StoreError, UsageError):  # a worker's is no mistake found before the start
        other = plain_error(RuntimeError(in_java(told(kind(text)))))
        assert (type(other), str(other)) == (JobFailed, text)


def test_a_traceback_that_was_cut_off_is_somebody_elses():
    whole = in_java(told(ModelError("m" * 300)))
    at = whole.index("embedbeam-error:")
    for end in (at + 16, at + 17, at + 100):
        assert read_note(whole[:end]) is None
        assert type(plain_error(RuntimeError(whole[:end]))) is JobFailed
    assert read_note("the file transforms.errors.ModelError: x is none") is None


def test_the_last_of_several_of_our_errors():
    text = f"{told(ModelError('first'))}\n\nDuring handling:\n{told(BadFileError('f', 3, 'second'))}\n"
    assert str(plain_error(RuntimeError(text))) == "f at 3: second"


def refuse(runner):
    """Runs a pipeline whose one step raises an error of ours."""

    def raises(_):
        from transforms.errors import BadFileError

        raise BadFileError("a.csv", 7, "no such column", kind="column", column="text")

    with beam.Pipeline(runner=runner) as root:
        _ = root | beam.Create([1]) | beam.Map(raises)


def test_an_error_of_this_process_keeps_its_fields():
    """Beam would put the step's name into the first argument, the file."""
    with pytest.raises(BadFileError) as raised:
        refuse(FnApiRunner())
    error = raised.value
    assert (error.source, error.position, error.reason) == ("a.csv", 7, "no such column")
    assert (error.kind, error.column, str(error)) == ("column", "text", "a.csv at 7: no such column")


@pytest.mark.slow
def test_an_error_of_another_process():
    """Its worker hands Beam nothing but the traceback's text."""
    server, pool, address = worker_pool.serve(
        "127.0.0.1:0", use_process=True, container_executable=boot_command()
    )
    try:
        with pytest.raises(RuntimeError) as raised:
            refuse(FnApiRunner(default_environment=ExternalEnvironment(address)))
    finally:
        server.stop(1).wait()
        for worker in pool._worker_processes.values():
            worker.kill()
            worker.wait()
    assert not isinstance(raised.value, EmbedbeamError)
    found = plain_error(raised.value)
    assert (type(found), str(found)) == (JobFailed, "a.csv at 7: no such column")


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            "Pipeline x_1 failed in state FAILED: java.lang.OutOfMemoryError: Java heap space",
            "Java heap space (run with --verbose for the traceback)",
        ),
        ("Traceback:\nValueError: no [while running 'Read']", "ValueError: no (run with --verbose for the "),
        (
            "OSError: [Errno 28] No space left on device [while running 'Write']",
            "OSError: [Errno 28] No space left on device (what is committed is kept: mend this, "
            "then run the ",
        ),
        ("", "RuntimeError (run with --verbose for the traceback)"),
    ],
)
def test_what_nobody_foresaw(message, line):
    found = plain_error(RuntimeError(message))
    assert type(found) is JobFailed
    assert str(found).startswith(line)


class Answer(Exception):
    """As grpc raises it."""

    def __init__(self, code, details):
        super().__init__(code, details)
        self._answer = code, details

    def code(self):
        return self._answer[0]

    def details(self):
        return self._answer[1]


def test_the_job_server_is_lost():
    found = str(plain_error(Answer(grpc.StatusCode.UNAVAILABLE, "Socket closed")))
    assert found.startswith("the connection to the job server was lost (Socket closed); the job may go on ")


def test_the_job_server_refuses():
    details = "java.lang.IllegalArgumentException: unknown urn\n\tat org.apache.beam.X.y(X.java:1)"
    assert str(plain_error(Answer(grpc.StatusCode.INVALID_ARGUMENT, details))) == (
        "the job server refused the job: unknown urn; it should be of this Beam version, "
        f"{installed('apache-beam')}"
    )
    empty = str(plain_error(Answer(grpc.StatusCode.UNKNOWN, "")))
    assert empty.startswith("the job server refused the job: StatusCode.UNKNOWN; ")


def test_without_step():
    assert without_step("it broke [while running 'A/B']\nmore") == "it broke"
    assert without_step("it broke") == "it broke"
