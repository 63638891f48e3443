"""Downloads that are killed in the middle: nothing stays at work, and the next run has the model."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import hubs
import psutil
import pytest

from transforms.encoder.model.handle import digest


def end_in_the_middle(client, server, handle: str, number: signal.Signals) -> None:
    """Ends the command when half of the graph has come, and waits until no process of it is left."""
    command = [Path(sys.executable).with_name("embedbeam"), "inspect", handle]
    server.goes_on.clear()
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=client.environment(), **streams) as process:
        end = time.monotonic() + 60
        while server.cut["saved_model.pb"]:
            assert time.monotonic() < end
            time.sleep(0.05)
        left = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
    assert process.returncode in (-9, 143)
    assert psutil.wait_procs(left, timeout=20)[1] == []
    server.goes_on.set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_from_hugging_face(hub, hf, model, number) -> None:
    hub.put("org/hash", hubs.files_of(model))
    hub.cut["saved_model.pb"] = [10_000]
    end_in_the_middle(hf, hub, "hf://org/hash", number)
    assert hf.ask("hf://org/hash")[0][2] == digest(model)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_from_kaggle(site, kaggle, model, number) -> None:
    handle = "kaggle://me/hash/tensorFlow2/small"
    site.repositories["me/hash/tensor_flow_2/small/2"] = hubs.files_of(model)
    site.cut["saved_model.pb"] = [10_000]
    end_in_the_middle(kaggle, site, handle, number)
    assert kaggle.ask(handle)[0][2] == digest(model)
