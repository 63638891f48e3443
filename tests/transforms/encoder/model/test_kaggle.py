"""kaggle:// through the real client, against a server on this machine that speaks Kaggle's protocol."""

import json
import signal
import sys

import hubs
import jobs
import pytest

from transforms.encoder.model.handle import at_revision, digest, revision
from transforms.encoder.model.kaggle import is_kaggle
from transforms.errors import UsageError

NAME = "me/hash/tensor_flow_2/small"
HANDLE = "kaggle://me/hash/tensorFlow2/small"
KEY = {"KAGGLE_USERNAME": "u", "KAGGLE_KEY": "TOPSECRETkey"}


def asked(site) -> list[str]:
    return [what for what, _, _ in site.asked]


@pytest.mark.parametrize(
    "page",
    [
        "https://www.kaggle.com/models/me/hash/tensorFlow2/small",
        "https://kaggle.com/models/me/hash/TensorFlow2/small/",
        "https://www.kaggle.com/models/me/hash/frameworks/tensorFlow2/variations/small?tab=x",
    ],
)
def test_pages_and_handles(page: str) -> None:
    framework = "TensorFlow2" if "/TensorFlow2/" in page else "tensorFlow2"
    assert is_kaggle(page)
    assert revision(page) is None
    pinned = at_revision(page, "3")
    assert (pinned, revision(pinned)) == (f"kaggle://me/hash/{framework}/small/3", "3")


def test_versions_of_pages() -> None:
    site = "https://www.kaggle.com/models/me/hash"
    assert revision(f"{site}/tensorFlow2/small/7") == "7"
    assert revision(f"{site}/frameworks/TensorFlow2/variations/small/versions/7") == "7"
    assert not is_kaggle(f"{site}/tensorFlow2/small/7?tf-hub-format=compressed")
    assert not is_kaggle("https://tfhub.dev/google/universal-sentence-encoder/4")
    for handle in ("kaggle://me/hash", "kaggle://me/hash/tensorFlow2/small/new", site):
        with pytest.raises(UsageError, match="expected kaggle://OWNER/MODEL/FRAMEWORK/VARIATION"):
            revision(handle)


def test_a_model_is_downloaded_once_and_pinned(site, kaggle, model, tmp_path) -> None:
    site.repositories |= {f"{NAME}/1": {"saved_model.pb": b"old"}, f"{NAME}/2": hubs.files_of(model)}
    page = "https://www.kaggle.com/models/me/hash/tensorFlow2/small"
    [found] = kaggle.ask(HANDLE, **KEY)
    assert found == [f"{HANDLE}/2", f"{tmp_path}/kaggle/models/me/hash/tensorFlow2/small/2", digest(model)]
    assert sorted(name.partition("//")[2] for what, name, _ in site.asked if what == "GET") == sorted(
        hubs.files_of(model)
    )
    # Kaggle gets the key, the store of its files does not.
    assert {bool(token) for what, _, token in site.asked if what != "GET"} == {True}
    assert {token for what, _, token in site.asked if what == "GET"} == {None}
    site.asked.clear()
    assert kaggle.ask(page) == [found]
    assert asked(site) == ["GetModelInstance"]
    site.asked.clear()
    (tmp_path / "file").write_text("")  # a place where nothing can be written
    nowhere = {"http_proxy": "http://127.0.0.1:9", "EMBEDBEAM_CACHE": tmp_path / "file"}
    assert kaggle.ask(f"{HANDLE}/2", f"{page}/2", **nowhere) == [found, found]
    assert asked(site) == []


@pytest.mark.slow
def test_the_job_tells_its_version_and_stays_with_it(site, kaggle, model, tmp_path) -> None:
    site.repositories[f"{NAME}/2"] = hubs.files_of(model)
    (tmp_path / "in.txt").write_text("a b c\nd e f\n")
    job = ("embed", f"--model={HANDLE}", f"--input={tmp_path}/in.txt", f"--output={tmp_path}/out", "--json")
    ran = kaggle.embedbeam(*job, "--quiet")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout)["model_revision"] == "2"
    assert jobs.manifest(tmp_path / "out")["model_revision"] == "2"
    site.repositories[f"{NAME}/3"] = {"saved_model.pb": b"new"}
    site.asked.clear()
    ran = kaggle.embedbeam(*job, "--quiet")
    assert (ran.returncode, ran.stderr, asked(site)) == (0, "", [])


@pytest.mark.slow
@pytest.mark.kill
def test_a_killed_job_goes_on_with_its_versions_of_model_and_preprocessor(
    site, kaggle, text_model, tmp_path
) -> None:
    parts = {name: f"me/{name}/tensor_flow_2/small" for name in ("encoder", "preprocessor")}
    site.repositories |= {f"{parts[name]}/1": hubs.files_of(text_model(name)) for name in parts}
    jobs.write_jsonl(tmp_path / "in.jsonl", [{"text": f"the cat {i}"} for i in range(60)])
    handles = [f"kaggle://me/{name}/tensorFlow2/small" for name in parts]
    job = ["embed", f"--model={handles[0]}", f"--preprocessor={handles[1]}", "--quiet", "--shard-bytes=200"]
    job += ["--model-output=sequence_output", "--pooling=mean"]
    job += [f"--input={tmp_path}/in.jsonl", f"--output={tmp_path}/out"]
    killed = kaggle.run(sys.executable, jobs.ROOT / "tests/kill_at.py", "after rename receipt", 1, *job)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    site.repositories |= {f"{parts[name]}/2": {"saved_model.pb": b"new"} for name in parts}
    ran = kaggle.embedbeam(*job)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(jobs.rows(tmp_path / "out")) == 60
    head = json.loads((tmp_path / "out/_embedbeam/plan.jsonl").read_text().partition("\n")[0])
    assert (head["model_revision"], head["preprocessor_revision"]) == ("1", "1")


@pytest.mark.slow
def test_what_is_wrong_is_one_line(site, kaggle, model) -> None:
    site.repositories[f"{NAME}/2"] = hubs.files_of(model)
    site.repositories["me/keras/keras/big/1"] = {"model.keras": b"x"}
    page = "https://www.kaggle.com/models/me/hash/tensorFlow2"
    none, version, keras = kaggle.ask(
        "kaggle://me/hash/tensorFlow2/other", f"{HANDLE}/9", "kaggle://me/keras/keras/big"
    )
    what = "(owner, model, framework, variation, version)"
    assert none == f"model kaggle://me/hash/tensorFlow2/other: there is no {page}/other {what}"
    assert version == f"model {HANDLE}/9: there is no {page}/small/9 {what}"
    assert keras.startswith(
        "model kaggle://me/keras/keras/big/1: not a SavedModel: no saved_model.pb in it (found: model.keras)"
    )
    site.status["Get"] = 403
    [consent] = kaggle.ask(HANDLE)
    assert consent == (
        f"model {HANDLE}: Kaggle answered with HTTP status 403; {page}/small may need your consent there, "
        "or a token: KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY"
    )
    site.status["Get"] = 418
    assert kaggle.ask(HANDLE, **KEY)[0].startswith(
        f"model {HANDLE}: Kaggle answered with HTTP status 418; this is no"
    )
    [lost] = kaggle.ask(HANDLE, http_proxy="http://127.0.0.1:9")
    assert lost.startswith(f"model {HANDLE}: Kaggle cannot be reached (")
    assert lost.endswith("a handle that ends in a version is taken from the cache, where it is there")


def test_a_model_of_many_files_comes_as_an_archive(site, kaggle, model) -> None:
    site.repositories[f"{NAME}/2"] = hubs.files_of(model) | {f"notes/{i}.txt": b"x" for i in range(30)}
    [[_, _, found]] = kaggle.ask(HANDLE)
    assert found == digest(model)
    assert [name.partition("//")[2] for what, name, _ in site.asked if what == "GET"] == [hubs.ARCHIVE]


def test_a_busy_server_is_asked_again(site, kaggle, model) -> None:
    site.repositories[f"{NAME}/2"] = hubs.files_of(model)
    site.status["Get"] = [503, 429]
    assert kaggle.ask(HANDLE)[0][2] == digest(model)


def test_a_download_that_breaks_off_goes_on(site, kaggle, model) -> None:
    site.repositories[f"{NAME}/2"] = hubs.files_of(model)
    size = (model / "saved_model.pb").stat().st_size
    site.cut["saved_model.pb"] = [size // 2]
    [[_, _, found]] = kaggle.ask(HANDLE)
    assert found == digest(model)


def test_without_the_client(kaggle) -> None:
    code = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "kagglehub" else find(name, *a)
from pipeline.cli import main
sys.exit(main(sys.argv[1:]))
"""
    ran = kaggle.run(sys.executable, "-c", code, "inspect", HANDLE)
    expected = (
        f"embedbeam: error: --model {HANDLE}: needs one more package: pip install 'embedbeam[kaggle]'\n"
    )
    assert (ran.returncode, ran.stderr) == (2, expected)
