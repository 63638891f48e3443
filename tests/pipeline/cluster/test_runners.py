"""The table of what differs between runners, and that the user's own value wins over each entry of it."""

import dataclasses
import itertools
import json
import re
import sys

import jobs
import pytest

from pipeline.cluster import runners
from pipeline.cluster.beam_options import known_beam_options
from pipeline.cluster.cluster import Cluster, resolve
from pipeline.cluster.runners import environment_config, is_near, job_name, policy
from pipeline.options.options import Options
from transforms.errors import UsageError

EVERYWHERE = {
    "save_main_session": False,
    "sdk_harness_log_level_overrides": {"apache_beam.runners.worker.sdk_worker_main": "WARNING"},
}
DATAFLOW = {
    **EVERYWHERE,
    "number_of_worker_harness_threads": 2,
    "experiments": ["no_use_multiple_sdk_containers"],
}
REMOTE = [name for name in runners.RUNNERS if name not in runners.LOCAL]


def near(processes=1, **more):
    return {**EVERYWHERE, "environment_type": "LOOPBACK", "sdk_worker_parallelism": processes, **more}


def far(processes=1, **more):
    return {**EVERYWHERE, "environment_type": "DOCKER", "sdk_worker_parallelism": processes, **more}


SETUP = {"setup_file": "setup.py"}
TABLE = [
    ("DirectRunner", {}, {}),
    ("DirectRunner", {"gpus": 4, "slots": 8, "image": False, **SETUP}, {}),
    ("FnApiRunner", {}, {}),
    ("FlinkRunner", {}, far()),
    ("FlinkRunner", {"slots": 8}, far(parallelism=8)),
    ("FlinkRunner", {"slots": 0}, far()),
    ("FlinkRunner", {"gpus": 1, "slots": 8}, far(parallelism=8)),
    ("FlinkRunner", {"gpus": 4}, far(4)),
    ("FlinkRunner", {"near": True, "slots": 2}, near(parallelism=2)),
    ("FlinkRunner", {"near": True, "gpus": 4}, near(4)),
    ("FlinkRunner", {"near": True, "image": False, **SETUP}, near()),
    ("FlinkRunner", {"image": False, **SETUP}, far(**SETUP)),
    ("FlinkRunner", {"image": True, **SETUP}, far()),
    ("FlinkRunner", {"image": False}, far()),
    ("SparkRunner", {"slots": 8}, far()),
    ("SparkRunner", {"gpus": 4, "image": False, **SETUP}, far(4, **SETUP)),
    ("SparkRunner", {"near": True}, near()),
    ("PortableRunner", {"slots": 8}, far()),
    ("PortableRunner", {"gpus": 4}, far(4)),
    ("PortableRunner", {"near": True, "gpus": 1}, near()),
    ("PrismRunner", {}, {**EVERYWHERE, "environment_type": "LOOPBACK"}),
    ("PrismRunner", {"gpus": 4, "image": False, **SETUP}, {**EVERYWHERE, "environment_type": "LOOPBACK"}),
    ("DataflowRunner", {}, {**DATAFLOW, "sdk_location": "container"}),
    ("DataflowRunner", {"gpus": 1, "near": True}, {**DATAFLOW, "sdk_location": "container"}),
    ("DataflowRunner", {"image": False, **SETUP}, {**DATAFLOW, **SETUP}),
    ("DataflowRunner", {"image": False}, DATAFLOW),
]


@pytest.mark.parametrize(("runner", "facts", "options"), TABLE)
def test_policy(runner, facts, options):
    assert policy(runner, **facts) == options
    assert Cluster(runner).waits is (runner != "DataflowRunner")


def test_every_runner_is_in_the_table():
    assert {runner for runner, _, _ in TABLE} == set(runners.RUNNERS)


@pytest.mark.parametrize(
    ("environment", "gpus", "config"),
    [
        ("PROCESS", 0, {"command": "/v/embedbeam-boot"}),
        ("PROCESS", 4, {"command": "/v/embedbeam-boot", "env": {"EMBEDBEAM_WORKER_GPUS": "4"}}),
        ("EXTERNAL", 0, "localhost:50000"),
        ("EXTERNAL", 4, "localhost:50000"),
        ("DOCKER", 4, None),
        ("LOOPBACK", 0, None),
        ("", 0, None),
    ],
)
def test_environment_config(environment, gpus, config):
    found = environment_config(environment, boot="/v/embedbeam-boot", gpus=gpus)
    assert (json.loads(found) if isinstance(config, dict) else found) == config


@pytest.mark.parametrize(
    ("service_options", "gpus"),
    [
        (None, 0),
        ([], 0),
        (["enable_prime"], 0),
        (["worker_accelerator=type:nvidia-tesla-t4;count:1;install-nvidia-driver"], 1),
        (["enable_prime", "worker_accelerator=type:nvidia-l4;count:12"], 12),
        (["worker_accelerator=type:nvidia-l4;install-nvidia-driver", "x=count:3"], 0),
    ],
)
def test_accelerators(service_options, gpus):
    assert runners.accelerators(service_options) == gpus


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("localhost", True),
        ("localhost:8099", True),
        ("127.0.0.1:8081", True),
        ("127.1.2.3:8081", True),
        ("http://localhost:8081/", True),
        ("spark://127.0.0.1:7077", True),
        ("[::1]:8081", True),
        ("[auto]", True),
        ("[local]", True),
        ("local", True),
        ("local[4]", True),
        ("local[*]", True),
        ("embed", True),
        (None, False),
        ("", False),
        ("flink:8081", False),
        ("localhost.example.org:8081", False),
        ("10.0.0.1:8081", False),
        ("spark://master:7077", False),
        ("yarn", False),
        ("k8s://https://10.0.0.1", False),
    ],
)
def test_is_near(endpoint, expected):
    assert is_near(endpoint) is expected


def test_job_name():
    assert job_name("gs://b/Vectors_2024/") == job_name("gs://b/Vectors_2024")
    assert job_name("gs://b/Vectors_2024").startswith("embedbeam-vectors-2024-")
    assert job_name("gs://a/out") != job_name("gs://b/out")  # of the whole path, not of its last part
    assert job_name("out") == job_name("./out")
    # What Dataflow takes: small letters, digits and hyphens, a letter first, 63 at most.
    for path in ("gs://b/" + "x" * 200, "gs://b/ünï çödé", "gs://b/---", "/", "gs://b/sécret?key=v"):
        name = job_name(path)
        assert len(name) <= 63
        assert re.fullmatch("[a-z][a-z0-9-]*[a-z0-9]", name), name


def given(runner, *arguments, slots=None, **more):
    options = Options(
        input=("gs://b/in",), output="gs://b/out", runner=runner, beam_args=tuple(arguments), **more
    )
    cluster = dataclasses.replace(resolve(options), slots=slots)
    found = cluster.pipeline_options()
    if found is None:
        return None
    told = found.get_all_options()  # what the runner sees, and what everybody here asks, are one
    assert {name: told[name] for name in cluster.options} == cluster.options
    assert cluster.pipeline_options().get_all_options() == told  # nothing is put in twice
    return told


# Each option that the policy sets, a value of the user's, and how Beam hands it on.
WINS = [
    ("save_main_session", [], True),
    ("sdk_harness_log_level_overrides", '{"apache_beam.runners.worker.sdk_worker_main": "DEBUG"}', None),
    ("environment_type", "PROCESS", "PROCESS"),
    ("environment_config", "of-the-user", "of-the-user"),
    ("sdk_worker_parallelism", "1", "1"),
    ("sdk_worker_parallelism", "7", "7"),
    ("parallelism", "3", 3),
    ("parallelism", "-1", -1),  # Beam's default, asked for by name
    ("number_of_worker_harness_threads", "12", 12),
    ("experiments", "of_the_user", None),
    ("setup_file", "/of/the/user/setup.py", "/of/the/user/setup.py"),
    ("sdk_location", "default", "default"),  # so too
    ("sdk_location", "/of/the/user.whl", "/of/the/user.whl"),
    ("job_name", "of-the-user", "of-the-user"),
]


@pytest.mark.parametrize(
    ("runner", "name", "value", "expected"),
    [(runner, *row) for runner, row in itertools.product(REMOTE, WINS)],
)
def test_the_users_value_wins(runner, name, value, expected):
    typed = f"--{name}={value}" if value else f"--{name}"
    image = ["--sdk_container_image=img"] if name == "sdk_location" else []
    found = given(runner, typed, *image, slots=8, worker_gpus=4)[name]
    if name == "sdk_harness_log_level_overrides":
        assert found == json.loads(value)
    elif name == "experiments":  # a list: what is ours stays beside it
        ours = ["no_use_multiple_sdk_containers"] if runner == "DataflowRunner" else []
        assert sorted(found) == sorted(["of_the_user", *ours])
    else:
        assert found == expected


def test_every_option_of_the_policy_is_among_those():
    known = {name for name, _, _ in WINS} - {"environment_config", "job_name"}
    assert {name for _, _, options in TABLE for name in options} == known


@pytest.mark.parametrize("runner", runners.RUNNERS)
def test_save_main_session_is_off(runner):
    found = given(runner, "--job_name=x")
    # Beam's own default differs between runners: off by name, not by silence.
    assert not found["save_main_session"]
    assert runner in runners.LOCAL or found["save_main_session"] is False


@pytest.mark.parametrize(
    ("typed", "config"),
    [
        (["--environment_type=PROCESS"], {"command": runners.boot_command()}),
        (["--environment_type=PROCESS", '--environment_config={"command": "x"}'], {"command": "x"}),
        (["--environment_type=PROCESS", "--environment_options=process_command=x"], None),
        (["--environment_type=EXTERNAL"], "localhost:50000"),
        (["--environment_type=EXTERNAL", "--environment_config=h:1"], "h:1"),
        ([], None),
    ],
)
def test_environment_config_beside_the_users_options(typed, config):
    found = given("PortableRunner", "--job_endpoint=flink:8099", *typed)["environment_config"]
    assert (json.loads(found) if isinstance(config, dict) else found) == config


def test_log_levels_of_the_user_stay_beside_ours():
    found = given("FlinkRunner", '--sdk_harness_log_level_overrides={"a": "DEBUG"}')
    assert found["sdk_harness_log_level_overrides"] == {
        "apache_beam.runners.worker.sdk_worker_main": "WARNING",
        "a": "DEBUG",
    }


@pytest.mark.parametrize(
    ("runner", "typed", "near_it"),
    [
        ("FlinkRunner", [], True),  # Beam's own default: a Flink of the job server's
        ("FlinkRunner", ["--flink_master=localhost:8081"], True),
        ("FlinkRunner", ["--flink_master=flink:8081"], False),
        ("FlinkRunner", ["--flink_master=localhost:8081", "--job_endpoint=flink:8099"], False),
        ("SparkRunner", ["--spark_master_url=spark://spark:7077"], False),
        ("SparkRunner", ["--spark_master_url=spark://127.0.0.1:7077"], True),
        ("PortableRunner", ["--job_endpoint=localhost:8099"], True),
        ("PortableRunner", ["--job_endpoint=flink:8099"], False),
    ],
)
def test_workers_of_a_near_cluster_are_of_this_process(runner, typed, near_it):
    assert given(runner, *typed)["environment_type"] == ("LOOPBACK" if near_it else "DOCKER")


def test_gpus_of_workers():
    typed = ["--dataflow_service_options=worker_accelerator=type:nvidia-l4;count:1"]
    options = Options(input=("gs://b/in",), output="gs://b/out", runner="DataflowRunner", beam_args=typed)
    assert resolve(options).gpus == 1
    assert resolve(dataclasses.replace(options, worker_gpus=0)).gpus == 0
    assert given("FlinkRunner", worker_gpus=3)["sdk_worker_parallelism"] in (3, "3")


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("--direct_num_workers", "DirectOptions"),
        ("--flink_master", "FlinkRunnerOptions"),
        ("--spark_master_url", "SparkRunnerOptions"),
        ("--prism_location", "PrismRunnerOptions"),
        ("--job_endpoint", "PortableOptions"),
        ("--job_server_java_launcher", "JobServerOptions"),
        ("--no_save_main_session", "SetupOptions"),
        ("--s3_endpoint_url", "S3Options"),
        ("--dataflow_service_options", "GoogleCloudOptions"),
    ],
)
def test_known_beam_options(name, owner):
    assert known_beam_options()[name] == owner


def test_embed_has_no_option_of_beams_name():
    """What `embed` takes for itself, Beam would never see."""
    own = {f"--{name.replace('_', '-')}" for name in Options.fields()} - {"--runner"}
    assert own & known_beam_options().keys() <= {"--output", "--input"}


def test_an_option_that_beam_does_not_take():
    with pytest.raises(UsageError, match=r"^Beam does not take these options: .*--parallelism=many"):
        given("FlinkRunner", "--parallelism=many")


SECRETS = [
    "--s3_secret_access_key=TOPSECRET",
    "--azure_connection_string",
    "TOPSECRET",
    "--x=https://u:TOPSECRET@h/p",
]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("--parallelism=TOPSECRET", "(look at --parallelism)"),
        ("--flink_master", "(look at --flink_master)"),
        ("--save_main_session=TOPSECRET", "(look at --save_main_session)"),
    ],
)
def test_no_secret_in_what_beam_does_not_take(wrong, why, capfd):
    typed = [*SECRETS, wrong.replace("TOPSECRET", "many")]
    with pytest.raises(UsageError) as raised:
        given("FlinkRunner", *typed)
    said = str(raised.value)
    assert said.startswith("Beam does not take these options: --s3_secret_access_key=*** ")
    assert "--azure_connection_string *** --x=https://***@h/p " in said
    assert said.endswith(why)
    assert "TOPSECRET" not in said
    assert capfd.readouterr() == ("", "")  # argparse would show the command and the value


def test_a_plain_local_job_needs_no_beam():
    code = (
        "import sys; from pipeline.cluster.preflight import prepare;"
        "from pipeline.options.options import Options;"
        "c = prepare(Options(input=('docs',), output='out'));"
        "assert c.is_local and c.in_process and c.waits and c.pipeline_options() is None and c.options == {};"
        "print({'apache_beam', 'tensorflow', 'grpc'} & set(sys.modules))"
    )
    done = jobs.run(sys.executable, "-c", code)
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize(
    ("runner", "typed", "facts"),
    [
        ("DirectRunner", ["--job_name=x"], (None, None, None, False, True, True, None)),
        (
            "FlinkRunner",
            ["--flink_master=flink:8081"],
            (None, "flink:8081", "http://flink:8081", False, False, True, "DOCKER"),
        ),
        (
            "FlinkRunner",
            ["--flink_master=https://127.0.0.1:8081/"],
            (None, "https://127.0.0.1:8081/", "https://127.0.0.1:8081", True, True, True, "LOOPBACK"),
        ),
        ("FlinkRunner", ["--flink_master=[auto]"], (None, "[auto]", None, True, True, True, "LOOPBACK")),
        (
            "FlinkRunner",
            ["--flink_master=flink:8081", "--job_endpoint=localhost:8099", "--environment_type=PROCESS"],
            ("localhost:8099", "flink:8081", None, True, False, True, "PROCESS"),
        ),
        (
            "SparkRunner",
            ["--spark_master_url=spark://s:7077", "--job_endpoint=embed"],
            (None, "spark://s:7077", None, True, True, True, "LOOPBACK"),
        ),
        ("PortableRunner", ["--job_endpoint=h:8099"], ("h:8099", None, None, False, False, True, "DOCKER")),
        ("DataflowRunner", [], (None, None, None, False, False, False, None)),
    ],
)
def test_what_a_cluster_knows(runner, typed, facts):
    cluster = resolve(Options(input=("gs://b/in",), output="gs://b/o", runner=runner, beam_args=typed))
    asked = (cluster.endpoint, cluster.master, cluster.rest_url, cluster.near, cluster.in_process)
    assert (*asked, cluster.waits, cluster.environment_type) == facts
    assert cluster.job_name == ("" if runner == "DirectRunner" else job_name("gs://b/o"))


def test_the_users_name_of_a_job():
    """It is what an earlier run's job is found by, too."""
    typed = ["--job_endpoint=h:1", "--job_name=mine"]
    options = Options(input=("gs://b/in",), output="gs://b/o", runner="PortableRunner", beam_args=typed)
    assert resolve(options).job_name == resolve(options).options["job_name"] == "mine"
