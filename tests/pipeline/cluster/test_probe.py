"""What cannot work on a cluster is one line within seconds, before anything is read, sent or written."""

import contextlib
import http.server
import json
import socket
import sys
import threading
import time
import zipfile

import jobs
import psutil
import pytest
import web

from pipeline.cluster import probe, worker_pool
from pipeline.run.screen import Screen

# Passes for a Java where none is needed to see what comes after it.
ANY_JAVA = f"--job_server_java_launcher={sys.executable}"
SPARK_HERE = ["--runner=SparkRunner", "--spark_master_url=local[2]", ANY_JAVA]
SHARED = "--shared-filesystem"


@pytest.fixture
def refused(cli, tmp_path, monkeypatch):
    """Runs `embed`, which must end with exit code 2 and one line, and leave nothing; returns the line."""
    monkeypatch.setattr(probe, "_SECONDS", 1.0)
    source = jobs.write_jsonl(tmp_path / "in.jsonl", jobs.documents(3))
    there = sorted(tmp_path.rglob("*"))

    def run(*flags, inputs=(source,), output=tmp_path / "out"):
        paths = [*(f"--input={path}" for path in inputs), f"--output={output}"]
        begun = time.monotonic()
        code, out, err = cli("embed", *paths, "--model=no-model-is-looked-for", *flags)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert time.monotonic() - begun < 15
        assert [
            path for path in sorted(tmp_path.rglob("*")) if path not in there and "out" in path.name
        ] == []
        return err.removeprefix("embedbeam: error: ").rstrip("\n")

    return run


@contextlib.contextmanager
def http_server(answer):
    """An HTTP server on loopback that gives a JSON answer to /overview; None: 404 to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = answer is not None and self.path == "/overview"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode() if found else b"<html>a web page</html>")

        def log_message(self, *_):
            pass

    with web.serve(Handler) as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture
def silent():
    """The address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


# Mistakes that show in the options alone.


def test_an_unknown_runner(refused):
    assert refused("--runner=FlinkRuner") == (
        "--runner FlinkRuner: expected one of DirectRunner, FnApiRunner, FlinkRunner, SparkRunner, "
        "PortableRunner, PrismRunner, DataflowRunner"
    )


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (
            ["--runner=SparkRunner", "--flink_master=localhost:8081"],
            "--flink_master belongs to FlinkRunner and PortableRunner, and --runner is SparkRunner; ",
        ),
        (
            ["--runner=FlinkRunner", "--direct_num_workers=2"],
            "--direct_num_workers belongs to DirectRunner and FnApiRunner, and --runner is FlinkRunner; ",
        ),
        (
            ["--runner=DataflowRunner", "--job_endpoint=localhost:8099"],
            "--job_endpoint belongs to FlinkRunner and SparkRunner and PortableRunner and PrismRunner, and ",
        ),
        (["--prism_location=/x"], "--prism_location belongs to PrismRunner, and --runner is DirectRunner; "),
        (
            ["--runner=PortableRunner"],
            "--runner PortableRunner needs --job_endpoint HOST:PORT, the address of a job server",
        ),
        (
            ["--direct_num_workers=2"],
            "--direct_running_mode and --direct_num_workers: the local runner works in one process",
        ),
        (
            ["--runner=FlinkRunner", "--parallelism=many", "--s3_secret_access_key=TOPSECRET"],
            "Beam does not take these options: --parallelism=many --s3_secret_access_key=*** "
            "--runner=FlinkRunner (look at --parallelism)",
        ),
        (
            ["--runner=FlinkRunner", "--parallelism=many"],
            "Beam does not take these options: --parallelism=many --runner=FlinkRunner (argument "
            "--parallelism: invalid int value: 'many')",
        ),
    ],
)
def test_options_that_contradict_each_other(flags, line, refused):
    assert refused(*flags).startswith(line)


def test_local_paths_that_workers_do_not_see(refused, tmp_path, free_port):
    flags = [f"--flink_master=127.0.0.1:{free_port}", "--runner=FlinkRunner"]
    remote = [*flags, "--environment_type=PROCESS"]
    assert refused(*remote) == (
        f"--output {tmp_path}/out: a local path, which workers of FlinkRunner would look for on their own "
        "disks; give a URL (gs://, s3://, hdfs://), or --shared-filesystem if it is mounted on every machine "
        "under this name"
    )
    # LOOPBACK's worker is this process: what is wrong now comes after the paths.
    for allowed in ([*flags], [*flags, "--environment_type=LOOPBACK"], [*remote, SHARED]):
        assert refused(*allowed).startswith("--flink_master 127.0.0.1:")


def test_a_local_input_beside_a_remote_output():
    """Asked of the check itself: an output elsewhere is asked for first, and needs a store."""
    from pipeline.cluster.cluster import resolve
    from pipeline.cluster.preflight import check
    from pipeline.options.options import Options
    from transforms.errors import UsageError

    options = Options(
        input=("gs://b/x", "docs/*.txt"),
        output="gs://b/out",
        runner="FlinkRunner",
        beam_args=("--flink_master=flink:8081",),
    )
    with pytest.raises(
        UsageError, match=r"^--input docs/\*\.txt: a local path, which workers of FlinkRunner"
    ):
        check(resolve(options), options)


@pytest.mark.parametrize(
    ("flag", "variable"),
    [
        ("--s3_secret_access_key", "AWS_SECRET_ACCESS_KEY"),
        ("--s3_session_token", "AWS_SESSION_TOKEN"),
        ("--azure_connection_string", "AZURE_STORAGE_CONNECTION_STRING"),
    ],
)
def test_a_secret_would_travel_with_the_job(flag, variable, refused):
    line = refused("--runner=FlinkRunner", f"{flag}=TOPSECRET", SHARED)
    assert line.startswith(
        f"{flag} with --runner FlinkRunner: everybody who sees the cluster could read it; "
    )
    assert variable in line
    assert "TOPSECRET" not in line


def test_several_gpus_on_dataflow(refused):
    gpus = "worker_accelerator=type:nvidia-l4;count:2;install-nvidia-driver"
    flags = ["--runner=DataflowRunner", SHARED, "--sdk_container_image=i"]
    line = refused(*flags, f"--dataflow_service_options={gpus}")
    assert line.startswith("--dataflow_service_options: several GPUs for a worker; one SDK process works on")


def test_containers_without_an_image(refused):
    flags = ["--runner=FlinkRunner", SHARED, "--environment_type=DOCKER"]
    assert refused(*flags) == (
        "--runner FlinkRunner: workers run in containers, which need this package: give --environment_config "
        "with an image that has it (deploy/docker makes one), or --setup_file"
    )


# A job server that is not there, or is something else.


def portable(address, *flags):
    return ["--runner=PortableRunner", f"--job_endpoint={address}", *flags]


def test_no_job_server(refused, free_port):
    assert refused(*portable(f"127.0.0.1:{free_port}")) == (
        f"--job_endpoint 127.0.0.1:{free_port}: no job server answers there (Connection refused); check the "
        "host, the port and that it runs"
    )
    line = refused(*portable("127.0.0.1:http"), SHARED, "--environment_type=LOOPBACK")
    assert line == "--job_endpoint 127.0.0.1:http: expected HOST:PORT"
    # An option that the job server might know is no reason to wait for it either.
    line = refused(*portable(f"127.0.0.1:{free_port}"), "--of_the_job_server=1")
    assert "no job server answers there" in line


def test_another_grpc_service_on_the_job_endpoint(refused):
    server, _, address = worker_pool.serve("127.0.0.1:0", use_process=False)
    try:
        assert refused(*portable(address)) == (
            f"--job_endpoint {address}: another service, perhaps the job server's artifact or "
            f"expansion port; "
            "expected Beam's job service, by default on port 8099"
        )
    finally:
        server.stop(0).wait()


def test_a_job_endpoint_that_never_answers(refused, silent):
    assert refused(*portable(silent)) == (
        f"--job_endpoint {silent}: no answer of a job server within 1 s (DEADLINE_EXCEEDED); expected Beam's "
        "job service, by default on port 8099"
    )


def test_the_web_page_of_a_cluster_as_job_endpoint(refused):
    with http_server({"slots-total": 2}) as address:
        assert "expected Beam's job service, by default on port 8099" in refused(*portable(address))


# Flink. A real one, of the right version and with TaskManagers, is in test_clusters.


def flink(address, *flags):
    return ["--runner=FlinkRunner", f"--flink_master={address}", ANY_JAVA, *flags]


def test_no_flink(refused, free_port):
    assert refused(*flink(f"127.0.0.1:{free_port}")) == (
        f"--flink_master 127.0.0.1:{free_port}: no Flink JobManager answers there (Connection "
        f"refused); check "
        "the host, the port and that it runs"
    )
    line = refused(*flink("nowhere"), "--environment_type=LOOPBACK")
    assert line == "--flink_master nowhere: expected HOST:PORT"


@pytest.mark.parametrize("answer", [None, {}, [], "text", {"slots": 2}])
def test_another_web_server_as_flink(answer, refused):
    with http_server(answer) as address:
        assert refused(*flink(address)) == (
            f"--flink_master {address}: something else than Flink's REST service answers there; its port is "
            "rest.port, by default 8081"
        )


def test_a_flink_that_never_answers(refused, silent):
    assert "something else than Flink's REST service answers there" in refused(*flink(silent))


def test_the_job_server_as_flink(refused):
    """A port that speaks something else than HTTP/1."""
    server, _, address = worker_pool.serve("127.0.0.1:0", use_process=False)
    try:
        assert "something else than Flink's REST service answers there" in refused(*flink(address))
    finally:
        server.stop(0).wait()


def test_no_password_of_the_master_is_shown(refused):
    with http_server(None) as address:
        line = refused(*flink(f"http://me:TOPSECRET@{address}"))
    assert line.startswith(f"--flink_master http://***@{address}: something else than Flink's REST service")


def test_flink_without_task_managers(refused):
    with http_server({"slots-total": 0, "flink-version": "1.19.1"}) as address:
        line = refused(*flink(address))
    assert line == (f"--flink_master {address}: the cluster has no TaskManager; start one, or wait for it")


def test_flink_of_another_version(refused):
    with http_server({"slots-total": 2, "flink-version": "1.17.2"}) as address:
        line = refused(*flink(address, "--flink_version=1.19"))
    assert line == ("--flink_version 1.19: the cluster runs Flink 1.17.2; give --flink_version=1.17")


def test_flinks_slots_are_told():
    from pipeline.cluster.cluster import resolve
    from pipeline.options.options import Options

    with http_server({"slots-total": 6, "flink-version": "1.19.1"}) as address:
        beam_args = (f"--flink_master={address}", "--flink_version=1.19", ANY_JAVA)
        options = Options(input=("x",), output="y", runner="FlinkRunner", beam_args=beam_args)
        cluster = probe.probe(resolve(options), Screen())
    assert (cluster.slots, cluster.options["parallelism"]) == (6, 6)
    assert resolve(options).slots is None  # nobody was asked


# Spark, Java and jars, Prism.


def test_no_spark(refused, free_port):
    flags = ["--runner=SparkRunner", ANY_JAVA]
    address = f"127.0.0.1:{free_port}"
    assert refused(*flags, f"--spark_master_url=spark://{address}", SHARED) == (
        f"--spark_master_url {address}: no Spark master answers there (Connection refused); check "
        f"the host, the "
        "port and that it runs"
    )
    assert refused(*flags, f"--spark_master_url={address}", SHARED) == (
        f"--spark_master_url {address}: expected spark://HOST:PORT"
    )


@pytest.mark.parametrize("runner", ["FlinkRunner", "SparkRunner"])
def test_no_java(runner, refused, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refused(f"--runner={runner}") == (
        f"--runner {runner}: no Java here (java), which Beam's job server needs; install Java 17, or give "
        "--job_endpoint of a job server that runs elsewhere"
    )


@pytest.mark.parametrize(("runner", "flag"), [("FlinkRunner", "flink"), ("SparkRunner", "spark")])
def test_the_jar_of_the_job_server(runner, flag, refused, tmp_path):
    flags = [f"--runner={runner}", ANY_JAVA]
    jar = tmp_path / "job-server.jar"
    typed = f"--{flag}_job_server_jar={jar}"
    expected = "expected Beam's job server for this runner"
    assert refused(*flags, typed) == f"--{flag}_job_server_jar {jar}: no such file; {expected}"
    jar.write_text("no zip")
    assert refused(*flags, typed) == f"--{flag}_job_server_jar {jar}: is no jar; {expected}"


def test_a_jar_of_another_beam(tmp_path, capfd):
    """No mistake yet: older job servers do run newer SDKs; the user is told where to look."""
    from pipeline.cluster.cluster import resolve
    from pipeline.options.options import Options
    from pipeline.version import installed

    with zipfile.ZipFile(tmp_path / "j.jar", "w") as jar:
        jar.writestr("org/apache/beam/sdk/sdk.properties", "version=2.1.0\n")
    beam_args = ("--spark_master_url=local[2]", ANY_JAVA, f"--spark_job_server_jar={tmp_path}/j.jar")
    options = Options(input=("x",), output="y", runner="SparkRunner", beam_args=beam_args)
    assert probe.probe(resolve(options), Screen(quiet=True)).slots is None
    assert capfd.readouterr().err == ""
    assert probe.probe(resolve(options), Screen()).slots is None
    assert capfd.readouterr().err == (
        f"embedbeam: --spark_job_server_jar is of Beam 2.1.0, and this is {installed('apache-beam')}: if the "
        "job does not start, take the jar of the same version\n"
    )


def test_no_prism(refused, tmp_path):
    assert refused("--runner=PrismRunner", f"--prism_location={tmp_path}/prism") == (
        f"--prism_location {tmp_path}/prism: no program there; `go install` puts one in ~/go/bin"
    )


# What starts the workers.


def test_no_worker_pool(refused, free_port):
    config = f"--environment_config=localhost:{free_port}"
    line = refused(*SPARK_HERE, SHARED, "--environment_type=EXTERNAL", config)
    assert line.startswith(f"--environment_config localhost:{free_port}: no worker pool answers there (")
    in_json = f'--environment_config={{"url": "localhost:{free_port}"}}'
    assert refused(*SPARK_HERE, SHARED, "--environment_type=EXTERNAL", in_json) == line


def test_no_boot_command(refused):
    config = '--environment_config={"command": "/nowhere/embedbeam-boot"}'
    assert refused(*SPARK_HERE, SHARED, "--environment_type=PROCESS", config) == (
        "--environment_config: no program /nowhere/embedbeam-boot; expected the path of embedbeam-boot on "
        "every worker"
    )


@pytest.mark.parametrize(
    ("kind", "config", "key"),
    [
        ("PROCESS", "{broken", "command"),
        ("PROCESS", "/usr/bin/embedbeam-boot", "command"),
        ("PROCESS", '{"cmd": "x"}', "command"),
        ("PROCESS", "[]", "command"),
        ("EXTERNAL", "{broken", "url"),
        ("EXTERNAL", '{"address": "x"}', "url"),
    ],
)
def test_an_environment_config_that_is_none(kind, config, key, refused):
    flags = [f"--environment_type={kind}", f"--environment_config={config}"]
    assert refused(*SPARK_HERE, SHARED, *flags) == (
        f'--environment_config {config}: expected JSON for --environment_type {kind}, like {{"{key}": ...}}'
    )


def test_no_docker(refused, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    flags = ["--environment_type=DOCKER", "--environment_config=image"]
    assert refused(*SPARK_HERE, SHARED, *flags) == (
        "--environment_type DOCKER: no docker on this machine; give --environment_type=PROCESS, which starts "
        "workers without it"
    )


# A job server that is there: Beam's own in Python, whose worker servers would listen on all interfaces.
JOB_SERVER = """
import sys
from grpc._server import _Server
bind = _Server.add_insecure_port
_Server.add_insecure_port = lambda server, address: bind(server, address.replace("[::]", "127.0.0.1"))
from apache_beam.runners.portability import local_job_service_main
local_job_service_main.run([f"--port={sys.argv[1]}"])
"""


def listening(process):
    """Addresses that a process listens on."""
    return {
        c.laddr.ip.removeprefix("::ffff:")
        for c in process.net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    }


def count_parses(monkeypatch):
    """The modules of ours that make Beam's options of arguments, once for each time that they do."""
    from apache_beam.options.pipeline_options import PipelineOptions

    init, callers = PipelineOptions.__init__, []

    def counted(self, *args, **kwargs):
        caller = sys._getframe(1).f_globals["__name__"]
        if type(self) is PipelineOptions and caller.split(".")[0] in ("pipeline", "transforms"):
            callers.append(caller)
        init(self, *args, **kwargs)

    monkeypatch.setattr(PipelineOptions, "__init__", counted)
    return callers


@pytest.mark.slow
def test_a_job_through_a_job_server(cli, corpus, model, finished, tmp_path, free_port, monkeypatch):
    """LOOPBACK: the whole job, to the same bytes; and this process is open to this machine only.

    And its options are parsed once, whoever asks what they say.
    """
    parses = count_parses(monkeypatch)
    address = f"localhost:{free_port}"
    found, ended = set(), threading.Event()

    def look():
        while not ended.wait(0.02):
            found.update(listening(psutil.Process()))

    before = listening(psutil.Process())
    with jobs.start(jobs.PYTHON, "-c", JOB_SERVER, free_port) as server:
        try:
            jobs.wait_for(lambda: listening(psutil.Process(server.pid)), server, 60)
            looking = threading.Thread(target=look)
            looking.start()
            flags = [*jobs.FLAGS, f"--model={model}", *portable(address)]
            code, out, err = cli("embed", f"--input={corpus}", f"--output={tmp_path}/out", *flags)
            ended.set()
            looking.join()
            assert listening(psutil.Process(server.pid)) <= {"127.0.0.1", "::1"}
        finally:
            ended.set()
            server.terminate()
    assert code == 0, err
    assert "embedded 291 of 300 documents" in out
    assert jobs.files(tmp_path / "out") == jobs.files(finished)
    assert jobs.rows(tmp_path / "out") == jobs.rows(finished)
    assert found - before == {"127.0.0.1"}
    assert parses == ["pipeline.cluster.beam_options"]
