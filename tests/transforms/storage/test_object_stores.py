"""Whole jobs on real object stores of this machine: rows, order of commits, kills, bad networks, mistakes."""

import io
import itertools
import random
import re
import shutil
import signal
import tarfile
import threading
from pathlib import Path

import jobs
import pytest
import stores
from apache_beam.options.pipeline_options import PipelineOptions

from transforms.errors import UsageError
from transforms.output.folder import Folder
from transforms.storage.files import open_read, use_options
from transforms.storage.listing import list_files
from transforms.storage.stores import check_store

pytestmark = pytest.mark.stores


@pytest.fixture(scope="module")
def local(tmp_path_factory, model):
    """A corpus, and a job over it on this disk."""
    folder = tmp_path_factory.mktemp("local")
    for name in ("a", "b"):
        jobs.write_jsonl(folder / "in" / f"{name}.jsonl", [
            {"id": f"{name}{i}", "text": f"text {name} {i} " + "word " * (i % 25), "n": i} for i in range(30)
        ])  # fmt: skip
    done = jobs.run(
        *jobs.EMBED, "--input", folder / "in", "--output", folder / "out", "--model", model, *FLAGS
    )
    assert done.returncode == 0, done.stderr
    return folder


FLAGS = ["--id-field=id", "--keep-field=n", "--shard-bytes=1800", "--quiet"]


@pytest.fixture(scope="module", params=["s3", "gs"])
def server(request, local, model):
    with stores.server(request.param) as store:
        yield store


@pytest.fixture
def store(server, local, model, tmp_path, monkeypatch):
    """The store with the corpus and the model in it, as a folder and as an archive; nothing else."""
    monkeypatch.setenv("EMBEDBEAM_CACHE", str(tmp_path / "cache"))
    server.clear()
    server.put_folder("in", local / "in")
    server.put_folder("m", Path(model))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(model, arcname="model")
    server.put("m.tar.gz", packed.getvalue())
    yield server
    use_options(PipelineOptions([]))


def command(store, port=None, model="m"):
    return [*jobs.EMBED, "--input", store.url("in/*.jsonl"), "--output", store.url("out"),
            "--model", store.url(model), *FLAGS, *store.flags(port)]  # fmt: skip


def outputs(store):
    """The objects of the output folder, by their names in it."""
    return {key[len("out/") :]: data for key, data in store.objects().items() if key.startswith("out/")}


def parts(found):
    return {name: data for name, data in found.items() if name.startswith("part-")}


def fetched_rows(store, tmp_path):
    folder = tmp_path / "fetched"
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in parts(outputs(store)).items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return jobs.rows(folder)


def reach(store, monkeypatch, port=None):
    """Lets children ask the store, through a proxy's port if one is given."""
    for name, value in store.environment(port).items():
        monkeypatch.setenv(name, value)


def is_request(data):
    return data.startswith((b"GET ", b"HEAD ", b"PUT ", b"POST ", b"DELETE ")) and b" HTTP/1.1\r\n" in data


def test_killed_in_an_upload_then_resumed_over_a_bad_network(store, local, tmp_path, monkeypatch):
    process, cut = None, None
    written, requests = [], itertools.count()

    def kill_at_second_part(data):
        nonlocal cut
        name = store.written(data)
        if name is None:
            return "reset" if cut else None
        if name.startswith("part-") and any("receipts/" in other for other in written):
            cut = name
            process.send_signal(signal.SIGKILL)
            return "reset"
        written.append(name)
        return None

    def stumble(data):
        if name := store.written(data):
            written.append(name)
        number = next(requests) if is_request(data) else None
        return {3: "503", 7: "reset"}.get(number % 10) if number is not None and number < 40 else None

    with stores.Proxy(store.port, kill_at_second_part) as proxy:
        reach(store, monkeypatch, proxy.port)
        process = jobs.start(*command(store, proxy.port))
        _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors
    before = outputs(store)
    assert cut is not None
    assert cut not in before
    assert parts(before)

    with stores.Proxy(store.port, stumble) as proxy:
        reach(store, monkeypatch, proxy.port)
        done = jobs.run(*command(store, proxy.port, model="m.tar.gz"))
    assert (done.returncode, done.stderr) == (0, "")
    assert {"503", "reset"} == set(proxy.made)
    after = outputs(store)
    assert parts(before).items() <= parts(after).items()
    assert fetched_rows(store, tmp_path) == jobs.rows(local / "out")
    ids = [name[len("part-") : -len(".parquet")] for name in parts(after)]
    assert len(ids) == 4
    receipts = [f"_embedbeam/receipts/{shard}.json" for shard in ids]
    assert {name for name in after if not name.startswith("part-")} == {
        "_SUCCESS", "_report.html",
        "_embedbeam/plan.jsonl", "_embedbeam/manifest.json", "_embedbeam/run.json", *receipts,
    }  # fmt: skip
    for shard, receipt in zip(ids, receipts, strict=True):  # the part before its receipt
        assert written.index(f"part-{shard}.parquet") < written.index(receipt)
        last = len(written) - 1 - written[::-1].index(f"part-{shard}.parquet")
        assert last < written.index(receipt)
    assert written[-1] == "_SUCCESS"

    reach(store, monkeypatch)
    look = [jobs.PYTHON, "-m", "pipeline"]
    verified = jobs.run(*look, "verify", store.url("out"), *store.flags())
    assert verified.returncode == 0, verified.stdout + verified.stderr
    status = jobs.run(*look, "status", store.url("out"), *store.flags())
    assert status.returncode == 0, status.stderr
    assert "4 of 4 committed" in status.stdout
    everything = [errors, done.stdout, done.stderr, verified.stdout, status.stdout]
    everything += [data.decode("latin-1") for data in after.values()]
    assert not any(stores.SECRET in text for text in everything)


IMPATIENT = """
import sys
from transforms.storage import retries
retries.PATIENCE = 3.0
from pipeline.cli import main
sys.exit(main())
"""


def test_a_store_lost_in_the_middle_of_a_job(store, monkeypatch):
    lost = threading.Event()

    def lose(data):
        if "receipts/" in (store.written(data) or ""):
            lost.set()
        return "reset" if lost.is_set() else None

    with stores.Proxy(store.port, lose) as proxy:
        reach(store, monkeypatch, proxy.port)
        arguments = command(store, proxy.port)[len(jobs.EMBED) :]
        done = jobs.run(jobs.PYTHON, "-c", IMPATIENT, "embed", *arguments)
    assert lost.is_set()
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(
        rf"embedbeam: error: {store.url('')}(in|out)/\S+: the store fails \(.*\); what is committed is kept: "
        r"mend this, then run the same command again\n",
        done.stderr,
    )
    assert stores.SECRET not in done.stdout + done.stderr
    assert "_SUCCESS" not in outputs(store)


def test_of_two_launchers_at_once_one_wins_and_the_other_is_told(store, local, tmp_path, monkeypatch):
    """Both found an empty folder before either has written its plan."""
    both, plan = threading.Barrier(2), "out/_embedbeam/plan.jsonl"

    def wait_at_the_plan(data):
        if f"out/{store.written(data)}" == plan and both.wait(120) == 1:
            jobs.wait_for(lambda: plan in store.objects(), launchers[0])  # the servers here check, then write

    with stores.Proxy(store.port, wait_at_the_plan) as proxy:
        reach(store, monkeypatch, proxy.port)
        launchers = [jobs.start(*command(store, proxy.port)) for _ in range(2)]
        said = [launcher.communicate(timeout=240)[1] for launcher in launchers]
    assert sorted(launcher.returncode for launcher in launchers) == [0, 1], said
    told = said[[launcher.returncode for launcher in launchers].index(1)]
    assert jobs.without_steps(told) == (
        f"embedbeam: error: --output {store.url('out')}: another embedbeam has just begun a job there; wait "
        "for it, or stop it, then run the same command again\n"
    )
    assert fetched_rows(store, tmp_path) == jobs.rows(local / "out")
    assert "_SUCCESS" in outputs(store)


def test_a_large_part_is_uploaded_block_by_block(store, monkeypatch):
    """Each block may break; nothing is seen before the last one; and a reader gets any piece of it."""
    data = random.Random(7).randbytes(20 << 20)
    seen, passed = [], 0

    def cut_once(chunk):
        nonlocal passed
        passed += len(chunk)
        if passed > 12 << 20 and not seen:
            seen.append(sorted(outputs(store)))
            return "reset"
        return None

    with stores.Proxy(store.port, cut_once) as proxy:
        reach(store, monkeypatch, proxy.port)
        use_options(PipelineOptions(store.flags(proxy.port)))
        folder = Folder(store.url("out"))
        with_nothing = folder.read("part-1"), folder.names(), folder.delete("part-1")
        assert with_nothing == (None, {}, None)
        pending = folder.create("part-1")
        pending.write(data)
        pending.commit()
        folder.write("_SUCCESS", b"")
        assert seen == [[]]
        assert outputs(store) == {"part-1": data, "_SUCCESS": b""}
        with open_read(folder.join("part-1")) as f:
            assert (f.seek(-5, 2), f.read()) == (len(data) - 5, data[-5:])
            assert (f.seek(1 << 20), f.read(9 << 20)) == (1 << 20, data[1 << 20 : 10 << 20])
        with open_read(folder.join("part-1")) as f:
            assert f.read() == data
        assert folder.read("_SUCCESS") == b""
        assert folder.names() == {"part-1": len(data), "_SUCCESS": 0}


def test_names_with_glob_characters(store, monkeypatch):
    reach(store, monkeypatch)
    use_options(PipelineOptions(store.flags()))
    for name in ("g/a[1].txt", "g/a1.txt", "g/sub/b*.txt", "g/_hidden.txt", "gg/c.txt"):
        store.put(name, name.encode())
    root, found = list_files(store.url("g"))
    assert (root, [file.source for file in found]) == (store.url("g"), ["a1.txt", "a[1].txt", "sub/b*.txt"])
    assert [file.source for file in list_files(store.url("g/a[1].txt"))[1]] == ["a1.txt"]
    assert [file.source for file in list_files(store.url("g/**/b[*].txt"))[1]] == ["sub/b*.txt"]
    assert [file.size for file in list_files(store.url("g/a1.txt"))[1]] == [8]


# Mistakes, found before a job starts


def mistake(path, options):
    with pytest.raises(UsageError) as e:
        check_store("--input", path, PipelineOptions(options))
    return str(e.value)


def test_no_bucket(store):
    path = store.url("in").replace("bucket", "nowhere")
    message = mistake(path, store.flags())
    assert message.startswith(f"--input {path}: there is no bucket nowhere; make it, or check its name (")
    check_store("--input", store.url("in"), PipelineOptions(store.flags()))


def test_a_port_where_no_store_is(store, monkeypatch):
    port = stores.free_port()
    for name, value in store.environment(port).items():
        monkeypatch.setenv(name, value)
    message = mistake(store.url("in"), store.flags(port))
    problem = "no server answers there (Connection refused); check the host and the port"
    assert message.startswith(f"--input {store.url('in')}: {problem} (")
    assert message.endswith(f"http://127.0.0.1:{port})")


def test_no_credentials(store, monkeypatch, tmp_path):
    if store.scheme == "gs":
        pytest.skip("the emulator takes everybody")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    message = mistake(store.url("in"), [f for f in store.flags() if "key" not in f])
    assert message.startswith(f"--input {store.url('in')}: no credentials found; give AWS_ACCESS_KEY_ID and")


def test_mistakes_on_the_command_line(store, cli, monkeypatch, tmp_path):
    """One line, exit code 2; and a dry run, which writes nothing."""
    reach(store, monkeypatch)
    good = dict(zip(["input", "output", "model"], map(store.url, ["in/*.jsonl", "out", "m"]), strict=True))

    def told(flags, *leading, **paths):
        given = [f"--{name}={path}" for name, path in {**good, **paths}.items()]
        code, out, err = cli(*(leading or ["embed", *given, "--id-field=id"]), *flags)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        return err

    nowhere = store.url("x").replace("bucket", "nowhere")
    for name in good:
        problem = f"--{name} {nowhere}: there is no bucket nowhere; make it, or check its name ("
        assert told(store.flags(), **{name: nowhere}).startswith(f"embedbeam: error: {problem}")
    for command in ("status", "verify", "finish"):
        line = told(store.flags(), command, nowhere)
        assert line.startswith(f"embedbeam: error: OUTPUT {nowhere}: there is no bucket nowhere; ")
    given = [f"--{name}={path}" for name, path in good.items()]
    code, out, err = cli("embed", *given, "--id-field=id", "--dry-run", *store.flags())
    assert (code, err, out.splitlines()[0]) == (0, "", "files      2 (2 jsonl)")
    port = stores.free_port()
    reach(store, monkeypatch, port)
    assert "no server answers there (Connection refused)" in told(store.flags(port))
    assert outputs(store) == {}


def test_packages_are_missing(monkeypatch):
    monkeypatch.setattr("transforms.storage.stores._installed", lambda module: False)
    expected = "--input gs://b/x: gs:// needs more packages: pip install 'embedbeam[gcp]'"
    assert mistake("gs://b/x", []) == expected
