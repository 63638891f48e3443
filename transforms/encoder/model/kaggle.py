"""Models of Kaggle, by its own client: with its tokens and its cache."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from transforms.encoder.messages import model_error
from transforms.encoder.model.cache import locked
from transforms.encoder.model.hub_errors import answered, plain
from transforms.errors import UsageError

_FORM = "kaggle://OWNER/MODEL/FRAMEWORK/VARIATION[/VERSION]"
_NAME = r"([\w.-]+)"
_HANDLE = re.compile(rf"kaggle://{_NAME}/{_NAME}/{_NAME}/{_NAME}(?:/(\d+))?/?")
_SITE = re.compile(r"https://(?:www\.)?kaggle\.com/models/")
# As it is today, and as older links have it.
_PAGE = re.compile(
    rf"{_SITE.pattern}{_NAME}/{_NAME}/(?:frameworks/)?{_NAME}/(?:variations/)?{_NAME}"
    r"(?:/(?:versions/)?(\d+))?/?(?:[?#].*)?"
)
_fetched: dict[str, Path] = {}  # in this process, by handle


def is_kaggle(handle: str) -> bool:
    """Whether Kaggle's client brings the model: not where the archive itself is asked for, as TF Hub does."""
    return handle.startswith("kaggle://") or bool(_SITE.match(handle) and "tf-hub-format" not in handle)


def pin(handle: str) -> str:
    """The handle with its version, by which the model is the same everywhere and later.

    Raises:
      UsageError: there is no such model, or it cannot be had.
    """
    *name, version = _parts(handle)
    pinned = f"kaggle://{'/'.join(name)}"
    if version is None:
        brought = _bring(handle, "/".join(name))
        version = brought["version"]
        _fetched[f"{pinned}/{version}"] = Path(brought["path"])
    return f"{pinned}/{version}"


def fetch(handle: str) -> Path:
    """The model's folder in the client's cache.

    Args:
      handle: with a version, see `pin`.

    Raises:
      UsageError: there is no such model, or it cannot be had.
    """
    found = _fetched.get(handle)
    if found is None or not found.exists():
        found = _fetched[handle] = Path(_bring(handle, "/".join(filter(None, _parts(handle))))["path"])
    return found


def version(handle: str) -> str | None:
    """The version that a handle names."""
    return _parts(handle)[-1]


def at_version(handle: str, version: str) -> str:
    """The handle with this version."""
    return f"kaggle://{'/'.join(_parts(handle)[:4])}/{version}"


def _parts(handle: str) -> tuple[str, ...]:
    found = _HANDLE.fullmatch(handle) or _PAGE.fullmatch(handle)
    if found is None:
        raise model_error(handle, f"expected {_FORM}, or the page of a variation: .../models/OWNER/MODEL/...")
    return found.groups()


def _bring(handle: str, name: str) -> dict[str, Any]:
    """Downloads a model, if the client's cache has it not: its `path` and `version`."""
    if importlib.util.find_spec("kagglehub") is None:
        raise model_error(handle, "needs one more package: pip install 'embedbeam[kaggle]'")
    # The client has no lock of its own: two processes would write to the same files.
    with locked(f"kaggle--{name.replace('/', '--')}"):
        told = _ask_client(name)
    if "path" in told:
        return told
    raise _error(handle, name, told)


def _ask_client(name: str) -> dict[str, Any]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "TQDM_DISABLE": "1",
        "KAGGLEHUB_VERBOSITY": "error",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "transforms.encoder.model.kaggle_client", name],
        env=environment,
        stdin=subprocess.PIPE,  # closed when this process ends, which ends the other
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as client:
        assert client.stdout is not None
        lines = client.stdout.read().splitlines()
    try:
        told: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        return {"reason": f"its client ended with exit status {client.returncode}"}
    return told


def _error(handle: str, name: str, told: dict[str, Any]) -> UsageError:
    page = "https://www.kaggle.com/models/" + name
    status, why = told.get("status"), plain(told["reason"])
    if status in (401, 403):
        tokens = "KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY"
        advice = f"{page} may need your consent there, or a token: {tokens}"
        return model_error(handle, f"Kaggle answered with HTTP status {status}; {advice}")
    if status == 404:
        return model_error(handle, f"there is no {page} (owner, model, framework, variation, version)")
    if status:
        return model_error(handle, answered(status, "Kaggle", "KAGGLE_API_TOKEN"))
    if told.get("unreachable"):
        advice = "check the network"
        if version(handle) is None:
            advice += "; a handle that ends in a version is taken from the cache, where it is there"
        return model_error(handle, f"Kaggle cannot be reached ({why}); {advice}")
    return model_error(handle, f"cannot be fetched ({why}); KAGGLEHUB_CACHE says where to")
