"""What is asked of a bucket, on real servers of S3, Google's and Azure's protocols."""

import io
import random
import subprocess
import sys
import threading

import pytest
import stores
from apache_beam.options.pipeline_options import PipelineOptions
from reading import read_slice

from transforms.elements import Slice
from transforms.errors import StoreError, UsageError
from transforms.formats.base import ReadOptions
from transforms.output.folder import Folder
from transforms.storage import clients, objects, retries
from transforms.storage.client import CredentialsError
from transforms.storage.files import open_read, use_options
from transforms.storage.listing import list_files
from transforms.storage.stores import check_store

pytestmark = pytest.mark.stores


@pytest.fixture(scope="module", params=["s3", "gs", "az"])
def server(request):
    with stores.server(request.param) as store:
        yield store


@pytest.fixture
def store(server, monkeypatch):
    server.clear()
    reach(server, monkeypatch)
    yield server
    use_options(PipelineOptions([]))


def reach(store, monkeypatch, port=None):
    for name, value in store.environment(port).items():
        monkeypatch.setenv(name, value)
    use_options(PipelineOptions(store.flags(port)))


def test_a_file_is_there_whole_and_read_in_pieces(store):
    data = random.Random(7).randbytes(20 << 20)
    folder = Folder(store.url("out"))
    assert (folder.read("part-1"), folder.names(), folder.delete("part-1")) == (None, {}, None)
    pending = folder.create("part-1")
    pending.write(data)
    pending.commit()
    folder.write("_SUCCESS", b"")
    assert store.objects() == {"out/part-1": data, "out/_SUCCESS": b""}
    with open_read(folder.join("part-1")) as f:
        assert (f.seek(-5, 2), f.read()) == (len(data) - 5, data[-5:])
        assert (f.seek(1 << 20), f.read(9 << 20)) == (1 << 20, data[1 << 20 : 10 << 20])
    with open_read(folder.join("part-1")) as f:
        assert f.read() == data
    assert folder.names() == {"part-1": len(data), "_SUCCESS": 0}
    folder.delete("part-1")
    assert folder.names() == {"_SUCCESS": 0}


def test_a_folder_is_listed_without_what_lies_below(store, monkeypatch):
    """Whatever lies deeper, it is one request."""
    keys = ["out/b", "out/a", "out/sub/c", "out/sub/deep/d", "outer/e"]
    for key in keys:
        store.put(key, b"12")
    asked = []

    def note(data):
        asked.append(data.partition(b" HTTP/1.1\r\n")[0].decode("latin-1"))

    with stores.Proxy(store.port, note) as proxy:
        reach(store, monkeypatch, proxy.port)
        found = [Folder(store.url(path)).names() for path in ("out", "out/sub", "none")]
    assert found == [{"a": 2, "b": 2}, {"c": 2}, {}]
    listings = [line for line in asked if "delimiter=" in line]
    assert len(listings) == 3, asked
    assert sorted(store.objects()) == sorted(keys)


def test_markers_of_folders_and_prefixes(store):
    for key in ("g/a1", "g/a[1]", "g/b", "g/empty file", "g/sub/x", "ga"):
        store.put(key, b"" if key.endswith("file") else b"12")
    if store.scheme != "az":  # Azurite takes no such name
        store.put("g/sub/", b"")
        store.put("g/nothing/", b"")
    found = list_files(store.url("g"))[1]
    assert [(f.source, f.size) for f in found] == [
        ("a1", 2), ("a[1]", 2), ("b", 2), ("empty file", 0), ("sub/x", 2),
    ]  # fmt: skip
    assert [f.source for f in list_files(store.url("g/a*"))[1]] == ["a1", "a[1]"]
    assert [f.source for f in list_files(store.url("g/s*/*"))[1]] == ["sub/x"]
    assert [(f.path, f.mtime) for f in list_files(store.url("g/b"))[1]] == [(found[2].path, found[2].mtime)]


def test_of_all_that_write_at_once_one_succeeds(store):
    path, results = store.url("out/plan"), {}

    def write(number):
        results[number] = objects.put_object(path, io.BytesIO(b"plan %d" % number), new=True)

    threads = [threading.Thread(target=write, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [number for number, won in results.items() if won]
    assert store.objects() == {"out/plan": b"plan %d" % winner}
    assert objects.put_object(path, io.BytesIO(b"plan %d" % winner), new=True)  # whose answer was lost
    assert not objects.put_object(path, io.BytesIO(b"another"), new=True)


def test_of_all_that_swap_at_once_one_succeeds(store):
    path, results = store.url("out/pointer"), {}
    store.put("out/pointer", b"first")
    old = objects.object_version(path)

    def swap(number):
        results[number] = objects.swap_object(path, b"by %d" % number, old)

    threads = [threading.Thread(target=swap, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [number for number, won in results.items() if won]
    assert store.objects() == {"out/pointer": b"by %d" % winner}
    assert not objects.swap_object(path, b"late", old)
    assert objects.swap_object(path, b"next", objects.object_version(path))
    newest = objects.object_version(path)
    objects.delete_object(path)
    assert not objects.swap_object(path, b"again", newest)
    assert store.objects() == {}
    with pytest.raises(FileNotFoundError):
        objects.object_version(path)


@pytest.mark.parametrize("trouble", ["503", "reset"])
def test_a_store_that_fails_is_no_fault_of_the_file(store, monkeypatch, trouble):
    store.put("in/a.txt", b"one")
    (found,) = list_files(store.url("in"))[1]
    piece = Slice(found.path, found.source, "txt", size=found.size, mtime=found.mtime)
    assert [document.text for document in read_slice(piece, ReadOptions())] == ["one"]
    monkeypatch.setattr(retries, "PATIENCE", 1.0)
    monkeypatch.setattr(retries, "_failing_since", None)
    with stores.Proxy(store.port, lambda data: trouble) as proxy:
        reach(store, monkeypatch, proxy.port)
        with pytest.raises(StoreError) as e:
            list(read_slice(piece, ReadOptions()))
    assert str(e.value).startswith(f"{piece.path}: the store fails (")
    assert str(e.value).endswith("; what is committed is kept: mend this, then run the same command again")
    assert "\n" not in str(e.value)
    assert stores.AZURE_KEY not in str(e.value)


def test_no_bucket(store):
    path = store.url("x").replace("bucket", "nowhere")
    kind = "container" if store.scheme == "az" else "bucket"
    with pytest.raises(UsageError, match=rf"^--input {path}: there is no {kind} nowhere; make it, or check"):
        check_store("--input", path, PipelineOptions(store.flags()))
    check_store("--input", store.url("x"), PipelineOptions(store.flags()))
    for ask in (lambda: Folder(path).write("a", b"1"), lambda: Folder(path).names()):
        with pytest.raises(
            StoreError, match=rf"the store fails \(there is no bucket {store.scheme}://nowhere\)"
        ):
            ask()


def test_a_key_that_no_path_can_be(store):
    if store.scheme != "s3":
        pytest.skip("Google's client knows such keys, Azurite has none")
    store.put("in//a.txt", b"1")
    with pytest.raises(UsageError, match=r"^s3://bucket/in/: .*empty path segment; rename what has '//'"):
        list_files(store.url("in"))
    for path in ("out", "in", "in/*.txt"):  # the look before a job asks whether the store answers
        check_store("--output", store.url(path), PipelineOptions(store.flags()))


SILENT = """
import os, signal, socket, threading, time
from apache_beam.options.pipeline_options import PipelineOptions
from transforms.storage import objects
from transforms.storage.files import use_options
server = socket.create_server(("127.0.0.1", 0))
endpoint = f"--s3_endpoint_url=http://127.0.0.1:{server.getsockname()[1]}"
use_options(PipelineOptions([endpoint, "--s3_access_key_id=k", "--s3_secret_access_key=s"]))
threading.Timer(2, os.kill, [os.getpid(), signal.SIGINT]).start()
started = time.monotonic()
try:
    objects.read_object("s3://b/k")
except KeyboardInterrupt:
    print(time.monotonic() - started < 10)
"""


def test_ctrl_c_while_a_server_is_silent():
    ran = subprocess.run([sys.executable, "-c", SILENT], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, "True\n"), ran.stderr


# Credentials and endpoints, without a server


@pytest.fixture
def no_keys(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def s3(*flags):
    return clients._s3("b", PipelineOptions(["--s3_endpoint_url=http://127.0.0.1:9", *flags]))


def test_credentials_of_s3(no_keys, monkeypatch, tmp_path):
    with pytest.raises(CredentialsError, match=r"^no credentials found$"):
        s3()
    with pytest.raises(CredentialsError, match="belong together"):
        s3("--s3_access_key_id=K")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of other keys")
    given = s3("--s3_access_key_id=K", "--s3_secret_access_key=S").credential_provider()
    assert given == {"access_key_id": "K", "secret_access_key": "S", "token": None, "expires_at": None}
    (tmp_path / "credentials").write_text("[p]\naws_access_key_id = K2\naws_secret_access_key = S2\n")
    monkeypatch.setenv("AWS_PROFILE", "p")
    found = s3().credential_provider()
    assert (found["access_key_id"], found["secret_access_key"]) == ("K2", "S2")


def test_the_region_is_the_buckets_own(no_keys, monkeypatch):
    answer = b"HTTP/1.1 403 Forbidden\r\nx-amz-bucket-region: eu-west-3\r\nContent-Length: 0\r\n\r\n"
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with server.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        threading.Thread(target=serve).start()
        monkeypatch.setattr(clients, "_AWS", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert clients._region_of("b") == "eu-west-3"
    assert clients._region_of("b") is None
