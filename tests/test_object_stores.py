"""Whole jobs on real object stores of this machine: rows, order of commits, kills, bad networks, mistakes."""

import io
import itertools
import shutil
import signal
import tarfile
from pathlib import Path

import jobs
import pytest
import stores
from apache_beam.options.pipeline_options import PipelineOptions

from transforms.errors import UsageError
from transforms.stores import check_store

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
    running = stores.s3_server() if request.param == "s3" else stores.gcs_server(stores.gcs_binary())
    with running as store:
        yield store


@pytest.fixture
def store(server, local, model, tmp_path, monkeypatch):
    """The store with the corpus and the model in it, as a folder and as an archive; nothing else."""
    monkeypatch.setenv("EMBEDBEAM_CACHE", str(tmp_path / "cache"))
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # no search for a cloud machine's own credentials
    server.clear()
    server.put_folder("in", local / "in")
    server.put_folder("m", Path(model))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(model, arcname="model")
    server.put("m.tar.gz", packed.getvalue())
    return server


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


def test_a_job_resumed_in_a_store(store, local, tmp_path, monkeypatch):
    asked = []
    with stores.Proxy(store.port, lambda line: asked.append(line)) as proxy:
        for name, value in store.environment(proxy.port).items():
            monkeypatch.setenv(name, value)
        done = jobs.run(*command(store, proxy.port))
    assert (done.returncode, done.stderr) == (0, "")
    assert fetched_rows(store, tmp_path) == jobs.rows(local / "out")
    first = outputs(store)
    assert "_SUCCESS" in first
    ids = [name[len("part-") : -len(".parquet")] for name in parts(first)]
    assert len(ids) >= 3
    writes = [line for line in asked if line.startswith((b"PUT", b"POST"))]
    for shard in ids:
        last_of_part = max(i for i, line in enumerate(writes) if f"part-{shard}".encode() in line)
        receipt = min(
            i for i, line in enumerate(writes) if f"{shard}.json".encode() in line and b"receipts" in line
        )
        assert last_of_part < receipt

    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("_SUCCESS", f"_embedbeam/receipts/{ids[0]}.json", f"part-{ids[0]}.parquet"):
        delete(store, f"out/{name}")
    done = jobs.run(*command(store, model="m.tar.gz"))
    assert (done.returncode, done.stderr) == (0, "")
    assert parts(outputs(store)) == parts(first)
    assert set(outputs(store)) == set(first)

    look = [jobs.PYTHON, "-m", "pipeline"]
    verified = jobs.run(*look, "verify", store.url("out"), *store.flags())
    assert verified.returncode == 0, verified.stdout + verified.stderr
    status = jobs.run(*look, "status", store.url("out"), *store.flags())
    assert status.returncode == 0, status.stderr
    assert f"{len(ids)}/{len(ids)}" in status.stdout
    everything = [done.stdout, done.stderr, verified.stdout, status.stdout]
    everything += [data.decode("latin-1") for data in outputs(store).values()]
    assert not any(stores.SECRET in text for text in everything)


def delete(store, key):
    if store.scheme == "s3":
        store.client().delete_object(Bucket="bucket", Key=key)
    else:
        store.client().bucket("bucket").blob(key).delete()


def test_killed_in_the_middle_of_an_upload(store, local, tmp_path, monkeypatch):
    process = None
    seen = []

    def kill_at_second_part(line):
        if line.startswith((b"PUT", b"POST")) and b"part-" in line and b"receipts" not in line:
            seen.append(line)
            if len({name_in(line) for line in seen}) == 2 and (b"PUT" in line or b"upload_id" in line):
                process.send_signal(signal.SIGKILL)
                return "reset"
        return None

    def name_in(line):
        return line[line.index(b"part-") :][:21]

    with stores.Proxy(store.port, kill_at_second_part) as proxy:
        for name, value in store.environment(proxy.port).items():
            monkeypatch.setenv(name, value)
        process = jobs.start(*command(store, proxy.port))
        process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    before = outputs(store)
    assert len(parts(before)) == 1
    assert sum("receipts/" in name for name in before) == 1
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    done = jobs.run(*command(store))
    assert (done.returncode, done.stderr) == (0, "")
    assert parts(before).items() <= parts(outputs(store)).items()
    assert fetched_rows(store, tmp_path) == jobs.rows(local / "out")


def test_a_store_that_stumbles(store, local, tmp_path, monkeypatch):
    numbers = itertools.count()

    def trouble(line):
        number = next(numbers)
        return {3: "503", 7: "reset"}.get(number % 10) if number < 100 else None

    with stores.Proxy(store.port, trouble) as proxy:
        for name, value in store.environment(proxy.port).items():
            monkeypatch.setenv(name, value)
        done = jobs.run(*command(store, proxy.port))
        made = proxy.made
    assert done.returncode == 0, done.stderr
    assert {"503", "reset"} == set(made)
    assert fetched_rows(store, tmp_path) == jobs.rows(local / "out")


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


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "aws"), ("gs", "gcp")])
def test_packages_are_missing(monkeypatch, scheme, extra):
    monkeypatch.setattr("transforms.stores._installed", lambda module: False)
    expected = f"--input {scheme}://b/x: {scheme}:// needs more packages: pip install 'embedbeam[{extra}]'"
    assert mistake(f"{scheme}://b/x", []) == expected
