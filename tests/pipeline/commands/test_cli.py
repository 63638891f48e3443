"""The command line: what it refuses, what it passes on, what it says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jobs
import numpy as np
import pytest

import pipeline

ROOT = Path(__file__).resolve().parents[3]
# The contract: option, and its default as --help shows it.
EMBED_OPTIONS = {
    "--input": None,
    "--input-format": "auto",
    "--text-field": "text, image, audio or input_ids",
    "--id-field": "file and position",
    "--keep-field": None,
    "--keep-text": None,
    "--model": "minilm",
    "--signature": "serving_default, or the model's call",
    "--model-output": None,
    "--output": None,
    "--output-format": "parquet",
    "--vector-dtype": "float32",
    "--long-documents": "mean",
    "--chunk-overlap": "32",
    "--batch-tokens": "by device",
    "--shard-bytes": "by size and workers",
    "--max-dead-letters": "1%",
    "--limit": None,
    "--dry-run": None,
    "--runner": "DirectRunner",
    "--quiet": None,
    "--overwrite": None,
    "--skip-bad-files": None,
    "--verbose": None,
    "--max-tokens": None,
    "--worker-gpus": "0",
    "--shared-filesystem": None,
    "--json": None,
}


def test_help_of_embed(cli):
    code, out, err = cli("embed", "--help")
    assert (code, err) == (0, "")
    text = " ".join(out.split())
    for option, default in EMBED_OPTIONS.items():
        described = re.search(
            rf"{option}(?: [A-Z]+| {{[^}}]*}})? (?!-)(.*?)(?= --[a-z]|$)", text.split("input:", 1)[1]
        )
        assert described, option
        if default is not None:
            assert f"(default: {default})" in described[1], option
    for group in ("input:", "model:", "chunking:", "output:", "run:", "exit codes: 0 done"):
        assert group in text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((), ["embed", "status", "verify", "finish", "export", "inspect", "tune", "completion", "--version"]),
        (("status",), ["OUTPUT"]),
        (("verify",), ["OUTPUT"]),
        (("export",), ["CHECKPOINT_DIR", "MODEL_DIR", "--precision", "bfloat16"]),
        (("inspect",), ["MODEL", "--signature", "--model-output", "--json"]),
        (("tune",), ["--input", "--model", "--max-tokens", "--minutes", "--plot", "--json"]),
        (("finish",), ["OUTPUT", "--max-dead-letters", "--json"]),
    ],
)
def test_help_of_commands(cli, command, words):
    code, out, err = cli(*command, "--help")
    assert (code, err) == (0, "")
    assert [word for word in words if word not in out] == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("diff", "moved: the same fingerprint, in another file or under another id;"),
        ("publish", "`embedbeam verify` reads them all, and finds one of the same size with other bytes"),
    ],
)
def test_help_says_what_a_word_means(cli, command, words):
    code, out, _ = cli(command, "--help")
    assert (code, words in " ".join(out.split())) == (0, True), out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "required: COMMAND"),
        (["embd"], "invalid choice: 'embd'"),
        (["embed"], "required: --input, --output"),
        (["embed", "--input=a"], "required: --output"),
        (["embed", "--input=a", "--output=b", "stray"], "unexpected argument 'stray'"),
        (
            ["embed", "--input=a", "--output=b", "--ouput-format=x"],
            "--ouput-format; did you mean --output-format?",
        ),
        (["embed", "--input=a", "--output=b", "--shard-byte=1"], "did you mean --shard-bytes?"),
        (["embed", "--input=a", "--output=b", "--direct_num_worker=1"], "did you mean --direct_num_workers?"),
        (["embed", "--input=a", "--output=b", "--zzz"], "unknown option --zzz; see `embedbeam embed --help`"),
        # A job server that is named may know more options, and is asked.
        (
            ["embed", "--input=a", "--output=b", "--job_endpoint", "127.0.0.1:1", "--zzz=1"],
            "--job_endpoint 127.0.0.1:1: no job server answers there",
        ),
        (["embed", "--input=a", "--output=b", "--limit=x"], "--limit: invalid int value: 'x'"),
        (["embed", "--input=a", "--output=b", "--overlap-seconds=x"], "'x': expected a number, like 0.5"),
        (["embed", "--input=a", "--output=b", "--window-seconds=nan"], "'nan': expected a number, like 0.5"),
        (["embed", "--input=a", "--output=b", "--near-duplicates=x"], "'x': expected a Jaccard similarity"),
        (["embed", "--input=a", "--output=b", "--near-duplicates=0"], "'0': expected a Jaccard similarity"),
        (["train", "a", "--label=n", "--to=b", "--learning-rate=nan"], "'nan': expected a number, like 0.5"),
        (["train", "a", "--label=n", "--to=b", "--validation=inf"], "'inf': expected a number, like 0.5"),
        (["embed", "--input=a", "--output=b", "--limit=0"], "--limit 0: expected a number of 1 or more"),
        (["embed", "--input=a", "--output=b", "--shard-bytes=1T"], "'1T': expected bytes"),
        (["embed", "--input=a", "--output=b", "--input-format=x"], "--input-format: invalid choice: 'x'"),
        (["embed", "--input=a", "--output=b", "--max-dead-letters", "-1"], "--max-dead-letters -1: expected"),
        (["embed", "--input=a", "--output=b", "--job_name=x"], "no file"),
        (["status"], "required: OUTPUT"),
        (["status", "x", "--limt=2"], "unknown option --limt"),
        (["status", "/nowhere/x"], "/nowhere/x: no job here"),
        (["verify", "/nowhere/x"], "/nowhere/x: no job here"),
        (["export", "a"], "required: MODEL_DIR"),
        (["inspect", "/nowhere/m"], "--model /nowhere/m: no such file or folder"),
    ],
)
def test_mistakes_are_one_line(cli, arguments, says, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "no file" in says:
        arguments = [*arguments, f"--model={model}"]
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("embedbeam: error: ")
    assert err.count("\n") == 1
    assert says in err
    assert list(tmp_path.iterdir()) == []


def test_several_workers_are_refused(cli, corpus, model, tmp_path):
    for flag in ("--direct_num_workers=4", "--direct_running_mode=multi_processing"):
        code, _, err = cli("embed", f"--input={corpus}", f"--output={tmp_path}/out", f"--model={model}", flag)
        assert (code, err.count("\n")) == (2, 1)
        assert "the local runner works in one process" in err
    assert not (tmp_path / "out").exists()


def test_unknown_runner_is_refused(cli, corpus, model, tmp_path):
    arguments = ["embed", f"--input={corpus}", f"--output={tmp_path}/out", f"--model={model}"]
    code, _, err = cli(*arguments, "--runner=FlankRunner")
    assert (code, err.count("\n")) == (2, 1)
    assert "--runner FlankRunner: " in err
    assert not (tmp_path / "out").exists()


def test_beams_own_options_pass(cli, tmp_path, model):
    jobs.write_jsonl(tmp_path / "a.jsonl", jobs.documents(3))
    code, out, err = cli(
        "embed",
        f"--input={tmp_path}/a.jsonl",
        f"--output={tmp_path}/out",
        f"--model={model}",
        "--direct_num_workers=1",
        "--temp_location=x",
        "--s3_secret_access_key",
        "verysecret",
        "--quiet",
    )
    assert (code, out, err) == (0, "", "")
    assert len(jobs.rows(tmp_path / "out")) == 3
    assert not any(b"verysecret" in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_summary(cli, tmp_path, model):
    jobs.write_jsonl(tmp_path / "a.jsonl", [*jobs.documents(30), "{"])
    arguments = ["embed", f"--input={tmp_path}/*.jsonl", f"--output={tmp_path}/out", f"--model={model}"]
    code, out, err = cli(*arguments, "--max-dead-letters=1")
    assert (code, err) == (0, "")
    first, rate, dead, where, opening = out.splitlines()
    assert first == "embedded 30 of 31 documents into 30 rows of 8 float32 numbers (1 shards, 1 part files)"
    assert re.fullmatch(
        r"this run: \d+s, [\d,.]+ documents/s, [\d,]+ tokens/s, \d+% of the time in the model; "
        r"the model waited \d+\.\d% of its time",
        rate,
    )
    assert dead == f"dead letters: 1 in {tmp_path}/out/_dead_letters/: not JSON (1)"
    assert where == f"output: {tmp_path}/out"
    found = {}
    exec(opening.removeprefix("open it: "), found)
    opened = sorted(found["table"]["position"].to_pylist())
    assert opened == sorted(row["position"] for row in jobs.rows(tmp_path / "out"))
    code, out, err = cli(*arguments, "--max-dead-letters=1")
    assert (code, err) == (0, "")
    assert out.splitlines()[1] == "nothing was left to do: everything is committed"


def test_dry_run_writes_nothing(cli, tmp_path, corpus):
    code, out, err = cli(
        "embed", f"--input={corpus}", f"--output={tmp_path}/a/out", "--model=/nowhere", "--dry-run"
    )
    assert (code, err) == (0, "")
    size = sum(path.stat().st_size for path in corpus.iterdir())
    lines = dict(re.split(r" {2,}", line, maxsplit=1) for line in out.splitlines() if "  " in line)
    assert lines["files"] == "3 (3 jsonl)"
    assert lines["bytes"] == f"{size:,}"
    assert lines["shards"] == f"1 of about {64 << 10:,} bytes"
    assert 200 < int(re.search(r"about (\d+)", lines["documents"])[1]) < 450
    assert list(tmp_path.iterdir()) == []


def test_dry_run_names_what_is_not_split_or_read(cli, tmp_path):
    (tmp_path / "t.csv").write_text("text,n\na,1\n")
    (tmp_path / "README").write_text("no format")
    (tmp_path / "x.txt").write_text("a text")
    code, out, _ = cli("embed", f"--input={tmp_path}", "--output=o", "--dry-run", "--input-format=auto")
    assert code == 0
    assert "not split  1 files are read by one worker each, e.g. t.csv" in out
    assert f"not read   1 files of unknown kind, e.g. {tmp_path}/README" in out


def test_python_call(tmp_path, model):
    jobs.write_jsonl(tmp_path / "a.jsonl", jobs.documents(3))
    result = pipeline.embed(input=str(tmp_path / "a.jsonl"), output=str(tmp_path / "out"), model=model)
    assert isinstance(result, pipeline.Manifest)
    assert (result.documents, result.rows, result.dim, result.dtype) == (3, 3, 8, "float32")
    again = pipeline.embed(input=str(tmp_path / "a.jsonl"), output=str(tmp_path / "out"), model=model)
    assert again == result


def test_python_call_refuses(tmp_path):
    with pytest.raises(TypeError, match="unknown_option"):
        pipeline.embed(input="a", output=str(tmp_path / "o"), unknown_option=1)
    from transforms.errors import UsageError

    with pytest.raises(UsageError, match="dry_run"):
        pipeline.embed(input="a", output=str(tmp_path / "o"), dry_run=True)
    assert list(tmp_path.iterdir()) == []


def test_inspect(cli, model):
    code, out, err = cli("inspect", model)
    assert (code, err) == (0, "")
    card = dict(re.split(r" {2,}", line, maxsplit=1) for line in out.splitlines())
    assert card["signature"] == "serving_default(text: string [n])"
    assert (card["dim"], card["dtype"], card["max tokens"]) == ("8", "float32", "16")
    assert re.fullmatch("[0-9a-f]{64}", card["digest"])


def only_json(cli, *arguments):
    """Exit code and the one object on standard output."""
    code, out, _ = cli(*arguments, "--json")
    assert out.count("\n") == 1
    return code, json.loads(out)


def test_json_of_every_command(cli, tmp_path, model):
    jobs.write_jsonl(tmp_path / "a.jsonl", [*jobs.documents(30), "{"])
    out = tmp_path / "out"
    flags = [f"--input={tmp_path}/*.jsonl", f"--output={out}", f"--model={model}", "--max-dead-letters=1"]
    code, planned = only_json(cli, "embed", *flags, "--dry-run")
    assert (code, planned["files"], planned["formats"], planned["shards"]) == (0, 1, {"jsonl": 1}, 1)
    assert planned["bytes"] == (tmp_path / "a.jsonl").stat().st_size
    assert not out.exists()
    code, done = only_json(cli, "embed", *flags)
    assert code == 0
    run = done.pop("run")
    assert done == jobs.manifest(out)
    assert (run["documents"], run["dead_letters"], run["shards"], run["failed_shards"]) == (31, 1, 1, 0)
    assert run["mini_batches"] >= 1
    assert 0 < run["model_seconds"] <= run["run_seconds"]
    again = only_json(cli, "embed", *flags)[1]
    assert again.pop("run")["shards"] == 0
    assert again == done
    code, status = only_json(cli, "status", out)
    assert (code, status["state"]) == (0, "finished")
    assert (status["shards"], status["committed"], status["failed"], status["documents"]) == (1, 1, 0, 31)
    assert (status["dead_letters"], status["done_bytes"]) == ({"not JSON": 1}, status["input_bytes"])
    sound = {"output": str(out), "defects": [], "shards": 1, "rows": 30, "dead_letters": 1}
    assert only_json(cli, "verify", out) == (0, sound)
    assert only_json(cli, "finish", out, "--max-dead-letters=1") == (0, done)
    (part,) = out.glob("part-*")
    part.write_bytes(part.read_bytes()[:-1])
    code, broken = only_json(cli, "verify", out)
    assert code == 1
    assert len(broken["defects"]) == 1
    assert broken["defects"][0].startswith(f"{part.name}: {part.stat().st_size} bytes, the receipt says")
    code, card = only_json(cli, "inspect", model)
    assert (code, card["dim"], card["max_tokens"], card["input"]) == (0, 8, 16, "text: string [n]")
    assert np.allclose(card["vector"], jobs.expected_vector(card["sample"]), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "argument", "says"),
    [
        (["embed", "--input=a", "--output=b", "--limit=0"], "limit", "--limit 0: expected a number of 1 or"),
        (["embed", "--input=a", "--output=b", "--limit=x"], None, "--limit: invalid int value: 'x'"),
        (["embed", "--input=/nowhere/x", "--output=b", "--dry-run"], None, "/nowhere/x: matches no file"),
        (["status", "/nowhere/x"], None, "/nowhere/x: no job here"),
    ],
)
def test_mistakes_in_json(cli, arguments, argument, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli(*arguments, "--json")
    told = json.loads(out)
    assert (code, told["exit_code"], err) == (2, 2, f"embedbeam: error: {told['error']}\n")
    assert says in told["error"]
    assert told["argument"] in (argument, "input")


def test_input_that_changed_since_the_plan_is_named(cli, tmp_path, model):
    for name in ("a", "b", "c"):
        jobs.write_jsonl(tmp_path / "in" / f"{name}.jsonl", jobs.documents(3))
    flags = [f"--input={tmp_path}/in", f"--output={tmp_path}/out", f"--model={model}"]
    assert cli("embed", *flags)[::2] == (0, "")
    assert cli("embed", *flags)[::2] == (0, "")
    jobs.write_jsonl(tmp_path / "in" / "a.jsonl", jobs.documents(4))
    (tmp_path / "in" / "b.jsonl").unlink()
    jobs.write_jsonl(tmp_path / "in" / "d.jsonl", jobs.documents(1))
    code, out, err = cli("embed", *flags)
    assert code == 0
    assert "nothing was left to do" in out
    assert err.splitlines() == [
        f"embedbeam: 1 files came after the plan was made and are not embedded, e.g. {tmp_path}/in/d.jsonl; "
        "give them an output folder of their own",
        f"embedbeam: 1 input files have changed since the plan was made, e.g. {tmp_path}/in/a.jsonl; rows "
        "that are committed stay as they are, --overwrite embeds anew",
        f"embedbeam: 1 input files are gone since the plan was made, e.g. {tmp_path}/in/b.jsonl; rows "
        "that are committed stay as they are, --overwrite embeds anew",
    ]
    os.utime(tmp_path / "in" / "c.jsonl", (1, 1))
    assert "2 input files have changed" in cli("embed", *flags)[2]
    assert cli("embed", *flags, "--quiet") == (0, "", "")


@pytest.mark.parametrize(
    "command", [[jobs.PYTHON, "-m", "pipeline"], [Path(jobs.PYTHON).parent / "embedbeam"]]
)
def test_version_at_once(command):
    """Nothing that takes time is imported for it."""
    done = jobs.run(*command, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"embedbeam \S+\n", done.stdout)


def test_what_is_imported_before_the_first_word():
    code = "import sys; from pipeline.cli import main; main(['--version']); print(*sys.modules)"
    done = jobs.run(jobs.PYTHON, "-c", code)
    heavy = {"numpy", "pyarrow", "tensorflow", "apache_beam", "rich", "transforms.elements"}
    assert heavy & set(done.stdout.split()) == set()


def test_completion_knows_every_option(cli):
    code, out, err = cli("completion", "bash")
    assert (code, err) == (0, "")
    assert [option for option in EMBED_OPTIONS if option not in out] == []
    assert "status" in out
    with subprocess.Popen(["bash", "-n"], stdin=subprocess.PIPE) as bash:
        bash.communicate(out.encode())
    assert bash.returncode == 0


def test_the_front_door_of_python(tmp_path, model):
    jobs.write_jsonl(tmp_path / "a.jsonl", jobs.documents(3))
    code = (
        "import sys, embedbeam\n"
        "light = {'numpy', 'tensorflow', 'apache_beam'} & set(sys.modules)\n"
        "assert not light, light\n"
        f"made = embedbeam.embed(input='a.jsonl', output='out', model={model!r}, quiet=True)\n"
        "assert isinstance(made, embedbeam.Manifest) and made.documents == 3\n"
        "assert embedbeam.EmbedDocuments.__module__ == 'transforms.embed_documents'\n"
        "assert issubclass(embedbeam.UsageError, embedbeam.EmbedbeamError)\n"
        "assert set(embedbeam.__all__) <= set(dir(embedbeam))\n"
        "print(embedbeam.__version__)"
    )
    done = jobs.run(jobs.PYTHON, "-c", code, cwd=tmp_path)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr


@pytest.mark.slow
def test_plain_file_from_anywhere(tmp_path, model):
    """Schedulers start the file itself, from any folder, with options that only Beam knows."""
    jobs.write_jsonl(tmp_path / "a.jsonl", jobs.documents(3))
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "pipeline" / "embed.py",
            "--input=a.jsonl",
            "--output=out",
            f"--model={model}",
            "--runner=DirectRunner",
            "--labels=airflow-version=v2",
            "--unknown_to_all=1",
        ],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = "embedbeam: unknown option --unknown_to_all; see `embedbeam embed --help` (ignored)\n"
    assert (done.returncode, jobs.without_steps(done.stderr)) == (0, said)
    assert len(jobs.rows(tmp_path / "out")) == 3


def test_an_error_is_told_though_nobody_can_read_its_json(tmp_path):
    with open("/dev/full", "w") as full:
        command = [*jobs.EMBED[:-1], "status", str(tmp_path), "--json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=jobs.environment())
    assert done.returncode == 2
    assert done.stderr.startswith(f"embedbeam: error: {tmp_path}: no job here")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_console_without_terminal_is_silent_on_stderr(tmp_path, model):
    jobs.write_jsonl(tmp_path / "a.jsonl", jobs.documents(50))
    done = jobs.run(*jobs.EMBED, "--input=a.jsonl", "--output=out", f"--model={model}", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 4
    quiet = jobs.run(
        *jobs.EMBED, "--input=a.jsonl", "--output=o", f"--model={model}", "--quiet", cwd=tmp_path
    )
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
