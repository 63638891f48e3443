"""Passwords and tokens, in URLs and in options, are nowhere afterwards."""

import functools
import http.server
import json
import tarfile

import jobs
import pytest
import web

from pipeline.options.secrets import redact_text
from pipeline.run.signals import resume_command, stopped_text


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
    with web.serve(handler) as port:
        yield f"http://127.0.0.1:{port}/m.tar.gz?token=TOPSECRET"


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
        ("x --azure_connection_string=A=b;AccountKey=c", "x '--azure_connection_string=***'"),
        ("x --azure_connection_string A=b;AccountKey=c", "x --azure_connection_string '***'"),
        ("x --model https:/me:s@h/m?sig=a", "x --model 'https:/***@h/m?***'"),
    ],
)
def test_the_command_that_resumes(command, shown):
    assert resume_command(command.split()) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("--model https://me:SECRET@host/m: no", "--model https://***@host/m: no"),
        ("https://me:SEC/RET@host/m", "https://***@host/m"),
        ("https:/host/m?sig=SECRET: no", "https:/host/m?***: no"),
        ("https://[bad/m?sig=SECRET; x", "https://[bad/m?***; x"),
        ("htps//host/m?sig=SECRET&x=SECRET, y", "htps//host/m?***, y"),
        ("no such file: m.tar.gz?token=SECRET", "no such file: m.tar.gz?***"),
        ("s3://key:SECRET@bucket/a", "s3://***@bucket/a"),
        (
            "Beam does not take --s3_secret_access_key=SECRET x",
            "Beam does not take --s3_secret_access_key=*** x",
        ),
        ("--azure_connection_string=Name=a;AccountKey=SECRET==", "--azure_connection_string=***"),
        ("gs://bucket/a?.jsonl and s3://b/x@y/z", "gs://bucket/a?.jsonl and s3://b/x@y/z"),
        ("--max-tokens=5 me@example.com: what?", "--max-tokens=5 me@example.com: what?"),
    ],
)
def test_texts_without_secrets(text, shown):
    assert redact_text(text) == shown


@pytest.mark.parametrize(
    "flag",
    [
        "--input=https:/me:TOPSECRET@host/x.jsonl",
        "--input=https//host/x.jsonl?sig=TOPSECRET",
        "--model=https//host/m?sig=TOPSECRET",
        "--model=https://me:TOPSECRET@[bad/m",
        "--s3_secret_access_ky=TOPSECRET",
        "--job_endpoint=https://me:TOPSECRET@[bad/m",
        "https://me:TOPSECRET@host/stray?sig=TOPSECRET",
    ],
)
def test_mistakes_show_no_secret(flag, tmp_path, cli, model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs.write_jsonl(tmp_path / "a.jsonl", jobs.documents(2))
    given = {"--input": "a.jsonl", "--output": "out", "--model": model}
    given |= {flag.partition("=")[0]: flag.partition("=")[2]} if flag.startswith("--") else {}
    arguments = [f"{name}={value}" for name, value in given.items()]
    arguments += [] if flag.startswith("--") else [flag]
    if "job_endpoint" in flag:
        arguments.append("--runner=PortableRunner")
    code, out, err = cli("embed", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "TOPSECRET" not in err
    code, out, _ = cli("embed", *arguments, "--json")
    assert code == 2
    assert "TOPSECRET" not in out
    assert json.loads(out)["exit_code"] == 2


def test_stopped_before_the_plan(tmp_path):
    assert stopped_text(str(tmp_path), ["x"]) == "embedbeam: stopped before anything was written\n"
