"""What clusters said when something went wrong, and the one line that a user gets for it."""

import grpc
import pytest

from pipeline.cluster.failures import plain_error, without_step
from pipeline.run.finish import JobFailed, installed
from transforms.errors import ModelError

POOL = "workers cannot be reached: with --environment_type=EXTERNAL"
DOCKER = "the workers' containers cannot be started: check the image's name"
BOOT = "the boot command of --environment_config does not start a worker"
DIED = "a worker died: the cluster's log says why"
SLOTS = "the cluster had too few free slots for --parallelism"
GRPC = "org.apache.beam.vendor.grpc.v1p69p0.io.grpc.StatusRuntimeException"

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
    found = plain_error(RuntimeError(f"Pipeline x_1 failed in state FAILED: {message}"))
    assert type(found) is JobFailed
    assert str(found).startswith(meaning)
    assert f"({reason}" in str(found)
    assert "\n" not in str(found)
    assert "Exception:" not in str(found)


def test_our_own_error_in_a_java_trace():
    text = (
        "Pipeline x_1 failed in state FAILED: java.lang.RuntimeException: Error received from SDK "
        "harness for "
        "instruction 2: Traceback (most recent call last):\n"
        '  File "embed.py", line 3, in process\n'
        "transforms.errors.ModelError: --model m: the model refuses every document "
        "[while running 'EmbedMiniBatches/ParDo(_EmbedFn)-ptransform-31']\n"
        "\tat java.base/java.util.concurrent.CompletableFuture.get(CompletableFuture.java:396)\n"
    )
    found = plain_error(RuntimeError(text))
    assert (type(found), str(found)) == (ModelError, "--model m: the model refuses every document")
    other = plain_error(RuntimeError(text.replace("ModelError", "LedgerError")))
    assert (type(other), str(other)) == (JobFailed, "--model m: the model refuses every document")


def test_the_last_of_several_of_our_errors():
    text = "transforms.errors.ModelError: first\n\nDuring handling:\ntransforms.errors.BadFileError: second\n"
    assert str(plain_error(RuntimeError(text))) == "second"


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
