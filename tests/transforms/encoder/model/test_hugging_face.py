"""hf:// through the real client, against a server on this machine that speaks the Hub's protocol."""

import json
import sys
import threading
from pathlib import Path

import hubs
import jobs
import pytest
from checkpoints import write_checkpoint

from transforms.encoder.model.handle import digest
from transforms.output.reader import open_output

OTHERS = {"README.md": b"text", "pytorch_model.bin": b"PK", "onnx/model.onnx": b"onnx", "tf_model.h5": b"h5"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> dict[str, bytes]:
    return hubs.files_of(write_checkpoint(tmp_path_factory.mktemp("bert")))


def asked(hub) -> list[str]:
    return [path for _, path, _ in hub.asked if path != "/api/agent-harnesses"]


def test_a_saved_model_is_used_as_it_is_and_downloaded_once(hub, hf, model, tmp_path) -> None:
    commit = hub.put("org/hash", OTHERS | hubs.files_of(model, "tf/1/") | {"model.safetensors": b"never"})
    [[pinned, folder, found]] = hf.ask("hf://org/hash", HF_TOKEN=hubs.TOKEN)
    assert pinned == f"hf://org/hash@{commit}"
    assert Path(folder) == tmp_path / "hf" / "hub" / "models--org--hash" / "snapshots" / commit / "tf" / "1"
    assert found == digest(model)
    assert hub.downloads() == sorted(hubs.files_of(model, "tf/1/"))
    # The Hub gets the token, another host does not.
    assert {token for _, path, token in hub.asked if path.startswith("/lfs/")} == {None}
    assert {token for _, path, token in hub.asked if path.startswith("/org/")} == {f"Bearer {hubs.TOKEN}"}
    hub.asked.clear()
    again = [pinned, folder, found]
    assert hf.ask("hf://org/hash@main", "hf://org/hash/tf/1") == [again, [f"{pinned}/tf/1", folder, found]]
    assert asked(hub) == ["/api/models/org/hash/revision/main", "/api/models/org/hash"]
    hub.asked.clear()
    assert hf.ask(pinned) == [again]
    assert hf.ask("hf://org/hash", "hf://org/hash@main", HF_HUB_OFFLINE=1) == [again, again]
    assert asked(hub) == []


def test_inspect_shows_what_a_handle_means(hub, hf, model) -> None:
    commit = hub.put("org/hash", hubs.files_of(model))
    ran = hf.embedbeam("inspect", "hf://org/hash", "--json")
    assert ran.stderr == ""
    card = json.loads(ran.stdout)
    assert (card["model"], card["revision"], card["digest"]) == ("hf://org/hash", commit, digest(model))
    assert card["folder"].endswith(f"/snapshots/{commit}")


@pytest.mark.slow
def test_a_checkpoint_becomes_a_model_once(hub, hf, checkpoint, tmp_path) -> None:
    commit = hub.put("org/bert", OTHERS | checkpoint)
    (tmp_path / "in.txt").write_text("a b c\nd e f\n")
    job = ("embed", "--model=hf://org/bert", "--quiet")
    ran = hf.embedbeam(*job, f"--input={tmp_path}/in.txt", f"--output={tmp_path}/one")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert hub.downloads() == sorted(checkpoint)
    [made] = (tmp_path / "cache" / "exported").iterdir()
    assert made.name.startswith(f"org--bert-{commit[:12]}-")
    manifest = jobs.manifest(tmp_path / "one")
    assert (manifest["model"], manifest["model_revision"]) == ("hf://org/bert", commit)
    assert manifest["model_digest"] == digest(made)
    assert open_output(str(tmp_path / "one")).plan.head["model_revision"] == commit
    before = made.stat().st_mtime_ns
    hub.asked.clear()
    offline = {"HF_HUB_OFFLINE": 1, "HF_ENDPOINT": "http://127.0.0.1:9"}
    ran = hf.embedbeam(*job, f"--input={tmp_path}/in.txt", f"--output={tmp_path}/two", **offline)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert made.stat().st_mtime_ns == before
    assert jobs.files(tmp_path / "one") == jobs.files(tmp_path / "two")
    assert hub.asked == []


@pytest.mark.slow
def test_two_processes_export_once(hub, hf, checkpoint, tmp_path) -> None:
    hub.put("org/bert", checkpoint)
    (tmp_path / "bin").mkdir()
    log = tmp_path / "exports"
    code = f"""
import sys, transforms.encoder.export as e
export = e.export
def noted(*arguments, **names):
    open({str(log)!r}, "a").write("x")
    return export(*arguments, **names)
e.export = noted
from transforms.encoder.model.handle import resolve
print(resolve("hf://org/bert"))
"""
    found: list[str] = []

    def one() -> None:
        found.append(hf.run(sys.executable, "-c", code).stdout)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1] != ""
    assert log.read_text() == "x"


@pytest.mark.slow
def test_a_rerun_stays_at_the_commit_of_its_plan(hub, hf, model, save_model, tmp_path) -> None:
    first = hub.put("org/hash", hubs.files_of(model))
    (tmp_path / "in.txt").write_text("a b c\nd e f\n")
    job = ("embed", f"--input={tmp_path}/in.txt", f"--output={tmp_path}/out", "--quiet")
    assert hf.embedbeam(*job, "--model=hf://org/hash").returncode == 0
    rows = jobs.files(tmp_path / "out")
    second = hub.put("org/hash", hubs.files_of(save_model(window=8)))
    hub.put("org/hash", hubs.files_of(model), ref="v1")
    hub.asked.clear()
    ran = hf.embedbeam(*job, "--model=hf://org/hash")  # it is finished
    assert (ran.returncode, ran.stderr, asked(hub)) == (0, "", [])
    (tmp_path / "out" / "_SUCCESS").unlink()
    for path in (tmp_path / "out" / "_embedbeam" / "receipts").iterdir():
        path.unlink()
    ran = hf.embedbeam(*job, "--model=hf://org/hash")  # it is not
    assert (ran.returncode, ran.stderr, asked(hub)) == (0, "", [])
    assert jobs.files(tmp_path / "out") == rows
    assert hf.embedbeam(*job, "--model=hf://org/hash@v1").returncode == 0  # the same model under another name
    ran = hf.embedbeam(*job, "--model=hf://org/hash@main")
    assert ran.returncode == 2
    assert f"(hf://org/hash at revision {first}) there" in ran.stderr
    assert f"(hf://org/hash@main at revision {second}) here" in ran.stderr


@pytest.mark.slow
def test_what_is_wrong_is_one_line(hub, hf, checkpoint) -> None:
    commit = hub.put("org/plain", {"README.md": b"", "config.json": b"{}", "pytorch_model.bin": b""})
    hub.put("org/gated", checkpoint)
    hub.repositories["org/gated"].gated = True
    config = json.loads(checkpoint["config.json"]) | {"model_type": "gpt_neox"}
    hub.put("org/neox", checkpoint | {"config.json": json.dumps(config).encode()})
    statuses = {"busy": 429, "down": 503, "odd": 418, "shut": 403, "token": 401}
    for name, status in statuses.items():
        hub.status[f"/api/models/org/{name}"] = status
    handles = [f"hf://org/{name}" for name in ("plain", "gated", "neox", "none", "plain@v9", *statuses)]
    plain, gated, neox, none, revision, *answers = hf.ask(*handles)
    assert plain == (
        "model hf://org/plain@" + commit + ": has neither a SavedModel (saved_model.pb) nor a checkpoint "
        "(config.json and *.safetensors); found README.md, config.json, pytorch_model.bin; .bin weights are "
        "not read, since they can run code: convert them to model.safetensors"
    )
    assert (
        f"is gated: accept its terms at {hub.url}/org/gated with an account, set HF_TOKEN to a token" in gated
    )
    assert ": its checkpoint cannot be exported: config.json: " in neox
    assert "gpt_neox" in neox
    assert none == (
        f"model hf://org/none: there is no {hub.url}/org/none, or it is a private one that needs HF_TOKEN; "
        "check the name"
    )
    assert revision == f"model hf://org/plain@v9: the repository has no revision v9; see {hub.url}/org/plain"
    said = f"{hub.url} answered with HTTP status"
    advice = {
        429: "too many requests: wait, or set HF_TOKEN, which allows more",
        503: "try again later",
        418: "this is no answer that a model hub gives: check the address",
        403: "the account of HF_TOKEN may not read it",
        401: "HF_TOKEN is not accepted: make a new one, or unset it",
    }
    expected = [
        f"model hf://org/{name}: {said} {status}; {advice[status]}" for name, status in statuses.items()
    ]
    assert answers == expected
    # With a token the terms alone are missing, or nothing.
    assert "with the account of your token, then" in hf.ask("hf://org/gated", HF_TOKEN="hf_TOPSECRETother")[0]
    [[pinned, _, _]] = hf.ask("hf://org/gated", HF_TOKEN=hubs.TOKEN)
    assert pinned.startswith("hf://org/gated@")


def test_no_network_and_no_cache(hub, hf) -> None:
    hub.put("org/hash", {"a": b""})
    ran = hf.embedbeam("inspect", "hf://org/hash", HF_ENDPOINT="http://127.0.0.1:9")
    assert (ran.returncode, ran.stderr) == (
        2,
        "embedbeam: error: --model hf://org/hash: http://127.0.0.1:9 cannot be reached ([Errno 111] "
        "Connection refused); check the network, or try again later\n",
    )
    ran = hf.embedbeam("inspect", "hf://org/hash", HF_HUB_OFFLINE=1)
    assert ran.returncode == 2
    assert ran.stderr.startswith(
        f"embedbeam: error: --model hf://org/hash: is not in the cache ({hf.folder}/hf/hub)"
    )
    assert ran.stderr.count("\n") == 1
    assert hub.asked == []


def test_a_download_that_breaks_off_goes_on(hub, hf, model) -> None:
    hub.put("org/hash", hubs.files_of(model))
    hub.cut["saved_model.pb"] = 1000
    [message] = hf.ask("hf://org/hash")
    assert ": cannot be fetched (peer closed connection" in message
    hub.cut.clear()
    [[_, _, found]] = hf.ask("hf://org/hash")
    assert found == digest(model)


def test_a_busy_hub_is_asked_again(hub, hf, model) -> None:
    commit = hub.put("org/hash", hubs.files_of(model))
    hub.status |= {"/api/models/org/hash/tree": [429, 0, 503], "/api/models/org/hash": [503]}
    [[pinned, _, _]] = hf.ask("hf://org/hash")
    assert (pinned, hub.status) == (
        f"hf://org/hash@{commit}",
        {"/api/models/org/hash/tree": [], "/api/models/org/hash": []},
    )


def test_a_full_disk_is_told(hub, hf, model, tmp_path) -> None:
    hub.put("org/hash", hubs.files_of(model))
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
from transforms.encoder.model.handle import resolve
from transforms.errors import UsageError
try:
    resolve("hf://org/hash")
except UsageError as e:
    print(e)
"""
    said = hf.run(sys.executable, "-c", code).stdout
    assert (
        f": File too large: {tmp_path}/hf/hub; make room, or set HF_HOME to a folder on a larger disk" in said
    )


def test_without_the_client(hf, tmp_path) -> None:
    (tmp_path / "path" / "huggingface_hub").mkdir(parents=True)
    (tmp_path / "path" / "huggingface_hub" / "__init__.py").write_text("raise ImportError('none')")
    code = "import sys; sys.path.insert(0, sys.argv[1]); "
    code += "from pipeline.cli import main; sys.exit(main(sys.argv[2:]))"
    ran = hf.run(sys.executable, "-c", code, tmp_path / "path", "inspect", "hf://org/hash")
    expected = (
        "embedbeam: error: --model hf://org/hash: needs one more package: pip install 'embedbeam[hf]'\n"
    )
    assert (ran.returncode, ran.stderr) == (2, expected)


@pytest.mark.slow
def test_workers_get_the_commit(hub, hf, model) -> None:
    commit = hub.put("org/hash", hubs.files_of(model))
    code = """
from pipeline.options.options import Options
from pipeline.run.loading import load_encoder, shared_encoder
from pipeline.run.screen import Screen
options = Options(input="-", output="-", model="hf://org/hash@main")
print(shared_encoder(options, load_encoder(options, Screen(quiet=True))).config.handle)
import apache_beam as beam
from transforms import embed_documents
made = []
embed_documents.SharedEncoder = lambda config: made.append(config.handle) or exit()
try:
    beam.Pipeline() | beam.Create([]) | embed_documents.EmbedDocuments("hf://org/hash")
except SystemExit:
    print(*made)
"""
    ran = hf.run(sys.executable, "-c", code)
    assert ran.stdout.splitlines() == [f"hf://org/hash@{commit}"] * 2


def test_a_cache_that_cannot_be_written(hub, hf, checkpoint, tmp_path) -> None:
    hub.put("org/bert", checkpoint)
    (tmp_path / "file").write_text("")
    [message] = hf.ask("hf://org/bert", EMBEDBEAM_CACHE=tmp_path / "file")
    assert f": cannot be kept in {tmp_path}/file: Not a directory; make room or allow it, or set" in message
