"""What the tests of hubs share: their servers, and the real command and client in a process of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import hubs
import pytest

ROOT = Path(hubs.__file__).resolve().parent.parent
SECRETS = ("TOPSECRET", "dTpUT1BTRUNSRVRrZXk")  # the latter as basic authentication has it
_ASK = """
import json, sys
from transforms.encoder.model.handle import digest, pin, resolve
from transforms.encoder.model import hub_errors
from transforms.errors import UsageError
hub_errors.PATIENCE = 2.0
for handle in sys.argv[1:]:
    try:
        pinned = pin(handle)
        folder = resolve(pinned)
        print(json.dumps([pinned, str(folder), digest(folder)]))
    except UsageError as e:
        print(json.dumps(str(e)))
assert not {"apache_beam", "tensorflow"} & set(sys.modules)
"""


class Client:
    """Runs what uses the hub's client, with caches of its own; nothing shown may have a secret in it."""

    def __init__(self, folder: Path, variables: dict):
        self.folder, self.variables = folder, variables

    def environment(self, **variables) -> dict[str, str]:
        names = (
            "HF_",
            "HUGGING",
            "KAGGLE",
            "http_proxy",
            "HTTP_PROXY",
            "no_proxy",
            "NO_PROXY",
            "TF_",
            "GRPC_",
        )
        kept = {name: value for name, value in os.environ.items() if not name.startswith(names)}
        environment = kept | {"PYTHONPATH": str(ROOT), "EMBEDBEAM_CACHE": str(self.folder / "cache")}
        return environment | {name: str(value) for name, value in (self.variables | variables).items()}

    def run(self, *command, **variables) -> SimpleNamespace:
        environment = self.environment(**variables)
        ran = subprocess.run(
            list(map(str, command)), env=environment, capture_output=True, text=True, timeout=300
        )
        shown = ran.stdout + ran.stderr
        assert not [secret for secret in SECRETS if secret in shown], shown
        return ran

    def embedbeam(self, *arguments, **variables) -> SimpleNamespace:
        return self.run(Path(sys.executable).with_name("embedbeam"), *arguments, **variables)

    def ask(self, *handles: str, **variables) -> list:
        """For each handle what it is pinned to, its folder and its digest; or what is wrong."""
        ran = self.run(sys.executable, "-c", _ASK, *handles, **variables)
        assert (ran.returncode, ran.stderr) == (0, "")
        return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.fixture
def hub():
    with hubs.hugging_face() as server:
        yield server


@pytest.fixture
def hf(hub, tmp_path):
    variables = {"HF_ENDPOINT": hub.url, "HF_HOME": tmp_path / "hf", "HF_HUB_DISABLE_TELEMETRY": 1}
    return Client(tmp_path, variables)


@pytest.fixture
def site():
    with hubs.kaggle() as server:
        yield server


@pytest.fixture
def kaggle(site, tmp_path):
    variables = {"KAGGLE_API_ENVIRONMENT": "LOCALHOST", "http_proxy": site.url}
    variables |= {
        "KAGGLEHUB_CACHE": tmp_path / "kaggle",
        "KAGGLE_CONFIG_DIR": tmp_path / "no",
        "HOME": tmp_path,
    }
    return Client(tmp_path, variables)
