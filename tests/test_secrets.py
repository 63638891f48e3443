"""Passwords and tokens, in URLs and in options, are nowhere afterwards."""

import functools
import http.server
import tarfile
import threading

import jobs
import pytest

from pipeline.run.summary import resume_command, stopped_text


@pytest.fixture
def model_url(model, tmp_path):
    """A model behind a URL of this machine, in TF Hub's form: a .tar.gz."""
    (tmp_path / "www").mkdir()
    with tarfile.open(tmp_path / "www" / "m.tar.gz", "w:gz") as tar:
        tar.add(model, arcname=".")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/m.tar.gz?token=TOPSECRET"
        server.shutdown()
        thread.join()


def test_a_url_with_a_token(model_url, tmp_path, cli, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    jobs.write_jsonl(tmp_path / "a.jsonl", [*jobs.documents(20), {"text": "a POISON text"}])
    flags = [f"--input={tmp_path}/a.jsonl", f"--output={tmp_path}/out", "--max-dead-letters=1"]
    flags += ["--s3_secret_access_key=TOPSECRET", "--s3_session_token", "TOPSECRET"]
    code, out, err = cli("embed", *flags, f"--model={model_url}")
    assert (code, err) == (0, "")
    code, status, _ = cli("status", tmp_path / "out")
    wrong = cli("embed", *flags, f"--model={model_url}", "--limit=3")
    assert wrong[0] == 2
    inspected = cli("inspect", model_url)
    assert inspected[0] == 0
    texts = [out, status, *map(str, wrong), *map(str, inspected)]
    texts += [p.read_bytes().decode(errors="replace") for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert not [text for text in texts if "TOPSECRET" in text]
    shown = model_url.replace("token=TOPSECRET", "***")
    assert jobs.manifest(tmp_path / "out")["model"] == shown
    assert f"model       {shown} (8 float32" in status


def test_a_url_that_fails(tmp_path, cli):
    jobs.write_jsonl(tmp_path / "a.jsonl", jobs.documents(2))
    flags = [f"--input={tmp_path}/a.jsonl", f"--output={tmp_path}/out"]
    code, _, err = cli("embed", *flags, "--model=http://me:TOPSECRET@127.0.0.1:9/m?sig=TOPSECRET")
    assert (code, err.count("\n")) == (2, 1)
    assert "--model http://***@127.0.0.1:9/m?***: cannot be fetched" in err
    assert "TOPSECRET" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("embedbeam embed --input a --overwrite --output=b", "embedbeam embed --input a --output=b"),
        ("x --s3_secret_access_key=abc --limit 3", "x '--s3_secret_access_key=***' --limit 3"),
        ("x --s3_session_token abc --quiet", "x --s3_session_token '***' --quiet"),
        ("x --model=https://u:p@h/m?sig=a", "x '--model=https://***@h/m?***'"),
        ("x --model https://u:p@h/m", "x --model 'https://***@h/m'"),
        ("x --max-tokens 5 --batch-tokens=7", "x --max-tokens 5 --batch-tokens=7"),
    ],
)
def test_the_command_that_resumes(command, shown):
    assert resume_command(command.split()) == shown


def test_stopped_before_the_plan(tmp_path):
    assert stopped_text(str(tmp_path), ["x"]) == "embedbeam: stopped before anything was written\n"
