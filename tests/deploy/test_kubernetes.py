"""The manifests, as far as they can be checked without a cluster: rendered, validated, and read."""

import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from pipeline.cli import make_parser
from pipeline.cluster.cluster import resolve
from pipeline.cluster.preflight import check
from pipeline.options.arguments import given_options

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/kubernetes"
CLUSTERS = ("cluster", "gpu/cluster", "shared-volume/cluster")
JOBS = ("job", "gpu/job", "shared-volume/job")
KUSTOMIZE = "v5.5.0"  # what kubectl 1.32 has built in
KUBERNETES = ("1.31", "1.37")  # podFailurePolicy is stable since 1.31; 1.37 is the newest that the tool knows


@pytest.fixture(scope="session")
def kustomize():
    if not shutil.which("go"):
        pytest.skip("needs go, which builds kustomize")
    """The program, built once into the cache; half a minute."""
    cache = Path(os.environ.get("EMBEDBEAM_CACHE") or "~/.cache/embedbeam").expanduser()
    program = cache / "tools" / f"kustomize-{KUSTOMIZE}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent) as folder:
            module = f"sigs.k8s.io/kustomize/kustomize/v5@{KUSTOMIZE}"
            subprocess.run(["go", "install", module], env={**os.environ, "GOBIN": folder}, check=True)
            os.replace(f"{folder}/kustomize", program)
    return program


@pytest.fixture(scope="session")
def rendered(kustomize, tmp_path_factory):
    """Returns a function from a folder's name to its objects, as (kind, name) -> manifest."""
    done = {}

    def render(name, folder=FOLDER):
        if (name, folder) not in done:
            built = subprocess.run([kustomize, "build", folder / name], capture_output=True, text=True)
            assert (built.returncode, built.stderr) == (0, "")
            found = list(yaml.safe_load_all(built.stdout))
            done[name, folder] = {(m["kind"], m["metadata"]["name"]): m for m in found}
            assert len(done[name, folder]) == len(found)
        return done[name, folder]

    return render


def pods(objects):
    """name -> pod spec of everything that makes pods."""
    templates = {name: m["spec"].get("template") for (_, name), m in objects.items() if "spec" in m}
    return {name: template["spec"] for name, template in templates.items() if template}


def containers(objects):
    return {c["name"]: c for pod in pods(objects).values() for c in pod["containers"]}


@pytest.mark.parametrize("name", CLUSTERS + JOBS)
def test_schemas(rendered, name):
    for manifest in rendered(name).values():
        for version in KUBERNETES:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schemas_refuse_a_wrong_name(rendered):
    (job,) = (m for (kind, _), m in rendered("job").items() if kind == "Job")
    wrong = {**job, "spec": {**job["spec"], "backofLimit": 6}}
    with pytest.raises(kubernetes_validate.ValidationError, match="backofLimit"):
        kubernetes_validate.validate(wrong, KUBERNETES[0], strict=True)


@pytest.mark.parametrize("name", CLUSTERS + JOBS)
def test_no_pod_has_more_rights_than_it_needs(rendered, name):
    objects = rendered(name)
    assert {m["metadata"].get("namespace", "embedbeam") for m in objects.values()} == {"embedbeam"}
    for pod in pods(objects).values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        kinds = {key for volume in pod["volumes"] for key in volume} - {"name"}
        assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim"}
        for container in pod["containers"]:
            context = {**pod["securityContext"], **container["securityContext"]}
            assert context["runAsUser"] > 0
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert not context.get("privileged")
            assert context.get("readOnlyRootFilesystem", False) is ("embedbeam" in container["image"])


@pytest.mark.parametrize("name", CLUSTERS + JOBS)
def test_resources_probes_and_secrets(rendered, name):
    for container in containers(rendered(name)).values():
        resources = container["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys()
        assert resources["limits"]["memory"] == resources["requests"]["memory"]
        if name in CLUSTERS:
            assert {"readinessProbe", "livenessProbe"} <= container.keys()
        for variable in container.get("env", []):
            if re.search("KEY|SECRET|TOKEN|PASSWORD", variable["name"]):
                assert list(variable["valueFrom"]) == ["secretKeyRef"]
    kinds = {kind for kind, _ in rendered(name)}
    assert "Secret" not in kinds


def test_each_task_manager_has_a_worker_pool_of_its_own(rendered):
    for name in CLUSTERS:
        pod = pods(rendered(name))["flink-taskmanager"]
        assert {c["name"] for c in pod["containers"]} == {"taskmanager", "worker-pool"}
        pool = containers(rendered(name))["worker-pool"]
        assert pool["command"] == ["embedbeam-worker-pool"]
        assert pool["ports"] == [{"name": "worker-pool", "containerPort": 50000}]
        # It listens on loopback alone, where the kubelet's own probes do not reach it.
        for probe in ("readinessProbe", "livenessProbe"):
            assert pool[probe]["exec"]["command"] == ["python", "/opt/embedbeam/healthcheck.py"]
        with_pool = [n for n, p in pods(rendered(name)).items() if "worker-pool" in str(p)]
        assert with_pool == ["flink-taskmanager"]


def test_images(rendered):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    (beam,) = re.findall(r"^apache-beam==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    for name, job in zip(CLUSTERS, JOBS, strict=True):
        found = {key: c["image"] for key, c in containers(rendered(name)).items()}
        suffix = "-gpu" if name.startswith("gpu/") else ""
        assert found["worker-pool"] == f"registry.example.com/embedbeam{suffix}:{version}"
        assert containers(rendered(job))["embed"]["image"] == found["worker-pool"]
        assert found["jobmanager"] == found["taskmanager"]
        flink = re.fullmatch(r"flink:(\d+\.\d+)\.\d+-scala_2.12-java11", found["jobmanager"])[1]
        assert found["job-server"] == f"apache/beam_flink{flink}_job_server:{beam}"


def test_the_job_finds_what_the_cluster_offers(rendered):
    cluster = rendered("cluster")
    services = {name: m["spec"] for (kind, name), m in cluster.items() if kind == "Service"}
    assert {spec["type"] for spec in services.values()} == {"ClusterIP"}
    offered = {f"{name}:{port['port']}" for name, spec in services.items() for port in spec["ports"]}
    server = containers(cluster)["job-server"]
    given = [*containers(rendered("job"))["embed"]["args"], *server["args"]]
    addresses = {value for a in given if re.search(r":\d+$", value := a.partition("=")[2])}
    assert addresses == {
        "beam-job-server:8099",
        "beam-job-server:8098",
        "flink-jobmanager:8081",
        "localhost:50000",
    }
    assert addresses - {"localhost:50000"} <= offered
    ports = {str(port["containerPort"]) for port in server["ports"]}
    assert ports == {a.partition("=")[2] for a in server["args"] if re.match("--(job|artifact)-port", a)}


def flink_config(objects):
    (found,) = (m for (kind, name), m in objects.items() if kind == "ConfigMap" and "flink" in name)
    return yaml.safe_load(found["data"]["config.yaml"])


def test_flinks_memory_fits_into_its_containers_and_slots_into_the_parallelism(rendered):
    config, found = flink_config(rendered("cluster")), containers(rendered("cluster"))
    for part in ("jobmanager", "taskmanager"):
        process = int(config[part]["memory"]["process"]["size"].removesuffix("m"))
        assert process + 100 == int(found[part]["resources"]["limits"]["memory"].removesuffix("Mi"))
    slots = config["taskmanager"]["numberOfTaskSlots"]
    replicas = rendered("cluster")["Deployment", "flink-taskmanager"]["spec"]["replicas"]
    (values,) = (m["data"] for (kind, _), m in rendered("job").items() if kind == "ConfigMap")
    assert values["PARALLELISM"] == str(slots * replicas)
    assert containers(rendered("cluster"))["worker-pool"]["resources"]["requests"]["cpu"] == str(slots)
    assert config["restart-strategy"]["type"] == "fixed-delay"


def allowed(objects):
    """(from labels, to labels, port) of every way in."""
    ways = set()
    for (kind, _), manifest in objects.items():
        if kind == "NetworkPolicy":
            for rule in manifest["spec"].get("ingress", []):
                for peer in rule["from"]:
                    for port in rule["ports"]:
                        to = manifest["spec"]["podSelector"]["matchLabels"]
                        source = peer["podSelector"]["matchLabels"]
                        ways.add((tuple(source.values()), tuple(to.values()), port["port"]))
    return ways


@pytest.mark.parametrize("name", CLUSTERS)
def test_ways_in(rendered, name):
    objects = rendered(name)
    everything = objects["NetworkPolicy", "nothing-comes-in"]["spec"]
    assert everything == {"podSelector": {}, "policyTypes": ["Ingress"]}
    flink, master, workers = ("flink",), ("flink", "jobmanager"), ("flink", "taskmanager")
    server = ("beam-job-server",)
    assert allowed(objects) == {
        *((flink, master, port) for port in (6123, 6124, 8081)),
        *((server, master, port) for port in (6124, 8081)),
        *((flink, workers, port) for port in (6121, 6122)),
        *((("embedbeam-job",), server, port) for port in (8099, 8098)),
        (("embedbeam-job",), master, 8081),
    }


def test_gpus(rendered):
    pool = containers(rendered("gpu/cluster"))["worker-pool"]
    for part in ("requests", "limits"):
        assert pool["resources"][part]["nvidia.com/gpu"] == "1"
    assert "--worker-gpus=1" in containers(rendered("gpu/job"))["embed"]["args"]
    assert "nvidia" not in str(rendered("cluster"))


def test_the_shared_volume_is_where_the_job_says(rendered):
    claim = {"persistentVolumeClaim": {"claimName": "embedbeam-data"}, "name": "data"}
    for name, pod, container in (
        ("shared-volume/cluster", "flink-taskmanager", "worker-pool"),
        ("shared-volume/job", "embed", "embed"),
    ):
        objects = rendered(name)
        assert claim in pods(objects)[pod]["volumes"]
        assert {"name": "data", "mountPath": "/data"} in containers(objects)[container]["volumeMounts"]
    claims = rendered("shared-volume/cluster")["PersistentVolumeClaim", "embedbeam-data"]
    assert claims["spec"]["accessModes"] == ["ReadWriteMany"]


@pytest.mark.parametrize("name", JOBS)
def test_the_jobs_command_is_one_that_embed_takes(rendered, name):
    objects = rendered(name)
    (values,) = (m["data"] for (kind, _), m in objects.items() if kind == "ConfigMap")
    embed = containers(objects)["embed"]
    assert embed["command"] == ["embedbeam", "embed"]
    arguments = [re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], a) for a in embed["args"]]
    parsed, rest = make_parser().parse_known_args(["embed", *arguments])
    parsed.beam_args = rest
    options = given_options(parsed)
    check(resolve(options), options)
    rules = objects["Job", "embed"]["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["onExitCodes"]["values"] == [1, 2]


def test_a_broken_manifest_is_found(rendered, tmp_path):
    shutil.copytree(FOLDER, tmp_path / "k")
    path = tmp_path / "k/cluster/job-server.yaml"
    path.write_text(path.read_text().replace("containerPort: 8099", "containerPort: job"))
    broken = rendered("cluster", tmp_path / "k")["Deployment", "beam-job-server"]
    with pytest.raises(kubernetes_validate.ValidationError, match="'job' is not of type 'integer'"):
        kubernetes_validate.validate(broken, KUBERNETES[0], strict=True)
