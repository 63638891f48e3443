import base64
import gzip
import http.server
import io
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import web
from hypothesis import given
from hypothesis import strategies as st
from test_encoder import error, load

from transforms.encoder.model import archive
from transforms.encoder.model.handle import digest, redact, resolve
from transforms.errors import ModelError
from transforms.storage.files import full_path

pytestmark = pytest.mark.usefixtures("own_caches")


def test_paths_that_are_no_models(tmp_path: Path) -> None:
    assert error(tmp_path / "no") == (
        "model M: no such file or folder; expected a SavedModel folder, a .tar.gz of one, a URL or 'minilm'"
    )
    (tmp_path / "file.txt").write_text("x")
    expected = "model M: is a file; expected a SavedModel folder or a .tar.gz of one"
    assert error(tmp_path / "file.txt") == expected
    (tmp_path / "empty").mkdir()
    for name in ("b.bin", "a.bin"):
        (tmp_path / "bert" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bert" / name).write_text("x")
    advice = "a BERT checkpoint becomes one by `embedbeam export CHECKPOINT_DIR MODEL_DIR`"
    missing = "model M: not a SavedModel: no saved_model.pb in it"
    assert error(tmp_path / "empty") == f"{missing} (found: nothing); {advice}"
    assert error(tmp_path / "bert") == f"{missing} (found: a.bin, b.bin); {advice}"
    schemes = "https, gs, s3, az, hdfs, hf, kaggle; give a local folder, a .tar.gz, a URL or 'minilm'"
    assert error("ftp://me:pw@x/m") == f"model ftp://***@x/m: scheme 'ftp' is not one of {schemes}"


def test_a_broken_saved_model(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff\xff")
    assert error(tmp_path).startswith("model M: cannot be loaded: ")


def test_file_urls_and_home(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(model.parent))
    assert resolve(f"file://{model}") == resolve("~/hash") == resolve(str(model)) == model


def test_file_urls_are_read_in_one_way(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "a b")
    for url in (f"file://{tmp_path}/a%20b", f"file://localhost{tmp_path}/a%20b"):
        assert resolve(url) == resolve(full_path(url)) == tmp_path / "a b"
    shutil.copytree(model, tmp_path / "c%20d")
    assert error(f"file://{tmp_path}/c%20d").startswith("model M: no such file or folder; ")
    assert resolve(f"file://{tmp_path}/c%2520d") == tmp_path / "c%20d"


def test_digest_is_of_what_the_model_is(model: Path, tmp_path: Path) -> None:
    original = digest(model)
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    assert digest(copy) == original
    (copy / "fingerprint.pb").write_bytes(b"drawn anew")
    (copy / "README.md").write_text("a note")
    assert digest(copy) == original
    for name in ("saved_model.pb", "variables/variables.data-00000-of-00001"):
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        assert digest(copy) != original
        shutil.copy(model / name, copy / name)
        assert digest(copy) == original
    (copy / "assets" / "vocab.txt").parent.mkdir(exist_ok=True)
    (copy / "assets" / "vocab.txt").write_text("a")
    with_asset = digest(copy)
    (copy / "assets" / "vocab.txt").rename(copy / "assets" / "words.txt")
    assert len({original, with_asset, digest(copy)}) == 3


def test_a_model_other_than_the_plans(model: Path) -> None:
    assert load(model, digest=digest(model)).digest == digest(model)
    with pytest.raises(
        ModelError, match=f"digest {digest(model)} here, 123 expected; the same model must lie"
    ):
        load(model, digest="123")


# Archives


def pack(archive: Path, model: Path, top: str = "") -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(model, arcname=top or ".")
    return archive


@pytest.mark.parametrize("top", ["", "universal-encoder"])
def test_an_archive_is_unpacked_once(tmp_path: Path, model: Path, top: str) -> None:
    archive = pack(tmp_path / "m.tar.gz", model, top)
    folder = resolve(str(archive))
    assert digest(folder) == digest(model)
    assert load(archive).embed(["a"]).tolist() == load(model).embed(["a"]).tolist()
    before = folder.stat().st_ctime_ns
    assert resolve(str(archive)) == folder
    assert folder.stat().st_ctime_ns == before
    assert [p.name for p in (tmp_path / "cache" / "models").iterdir() if p.name.startswith(".")] == []


def test_an_archive_that_would_write_elsewhere(tmp_path: Path) -> None:
    archive = tmp_path / "evil.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo("../../evil.txt")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"evil"))
    message = error(archive)
    assert message.startswith("model M: cannot be unpacked ('../../evil.txt' would be extracted to ")
    assert message.endswith("; fetch or pack it again")
    assert list(tmp_path.rglob("evil.txt")) == []
    assert list((tmp_path / "cache").glob("models/*")) == []


@pytest.mark.parametrize("damage", ["truncated", "flipped", "broken header", "no archive"])
def test_a_damaged_archive(tmp_path: Path, model: Path, damage: str) -> None:
    archive = pack(tmp_path / "m.tar.gz", model)
    data = bytearray(archive.read_bytes())
    if damage == "truncated":
        data = data[: len(data) // 2]
    elif damage == "broken header":  # of the last file, with the archive's checksum left as it was
        plain = bytearray(gzip.decompress(data))
        plain[plain.rindex(b"ustar")] = 0
        data = bytearray(gzip.compress(plain)[:-8] + data[-8:])
    elif damage == "flipped":
        data[len(data) // 2 : len(data) // 2 + 40] = b"\xff" * 40
    else:
        data = bytearray(b"<html>not found</html>")
    archive.write_bytes(data)
    message = error(archive)
    assert message.startswith("model M: cannot be unpacked (")
    assert message.endswith("); fetch or pack it again")
    assert list((tmp_path / "cache").glob("models/*")) == []


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "weights.bin").write_text("x")
    archive = pack(tmp_path / "m.tar.gz", tmp_path / "x", "x")
    assert error(archive).startswith(
        "model M: not a SavedModel: no saved_model.pb in it (found: weights.bin)"
    )


# URLs


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A server on this machine: (its URL, the folder it serves, the paths asked for)."""
    folder, asked = tmp_path / "served", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, format: str, *args: Any) -> None:
            asked.append(self.path)

        def do_GET(self) -> None:
            if not self.path.startswith("/to.tar.gz?"):
                return super().do_GET()
            self.send_response(302)
            self.send_header("Location", self.path.partition("?")[2])
            self.end_headers()

    with web.serve(Handler) as port:
        yield f"http://127.0.0.1:{port}", folder, asked


@pytest.mark.parametrize("top", ["", "encoder"])
def test_a_url_is_fetched_once_into_tfhubs_cache(server, model: Path, tmp_path: Path, top: str) -> None:
    url, folder, asked = server
    pack(folder / "m.tar.gz", model, top)
    found = resolve(f"{url}/m.tar.gz")
    assert digest(found) == digest(model)
    assert tmp_path / "tfhub" in found.parents
    requests = list(asked)
    assert resolve(f"{url}/m.tar.gz") == found
    assert asked == requests != []


def test_a_url_where_nothing_is(server) -> None:
    url, _, _ = server
    advice = "check the address, the network and your credentials"
    assert (
        error(f"{url}/no.tar.gz") == f"model M: cannot be fetched (HTTP Error 404: File not found); {advice}"
    )
    redacted = f"{url}/no.tar.gz".replace("//", "//***@") + "?***"
    message = error(f"{url}/no.tar.gz?sig=abc".replace("//", "//me:secret@"))
    assert message.startswith(f"model {redacted}: cannot be fetched (")
    assert "secret" not in message
    assert "abc" not in message


def test_a_server_that_does_not_answer() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert error(f"http://127.0.0.1:{port}/m.tar.gz") == (
        "model M: cannot be fetched (<urlopen error [Errno 111] Connection refused>); "
        "check the address, the network and your credentials"
    )


def test_a_page_instead_of_an_archive(server) -> None:
    url, folder, _ = server
    (folder / "m.tar.gz").write_text("<html>")
    assert error(f"{url}/m.tar.gz").startswith("model M: cannot be fetched (")


def test_only_this_machine_may_give_a_model_by_http() -> None:
    assert error("http://me:pw@example.com/m.tar.gz") == (
        "model http://***@example.com/m.tar.gz: http can be changed on its way; expected https "
        "(http is taken from this machine's own loopback address only)"
    )


def test_a_redirect_stays_where_it_is_safe(server, model: Path) -> None:
    url, folder, asked = server
    pack(folder / "m.tar.gz", model)
    assert digest(resolve(f"{url}/to.tar.gz?{url}/m.tar.gz")) == digest(model)
    message = error(f"{url}/to.tar.gz?http://example.com/m.tar.gz")
    assert "cannot be fetched (it redirects to http://, expected https)" in message
    assert [path.partition("?")[0] for path in asked] == ["/to.tar.gz", "/m.tar.gz", "/to.tar.gz"]


def test_a_hub_address_asks_for_the_archive(server, model: Path) -> None:
    url, folder, asked = server
    pack(folder / "1", model)
    assert digest(resolve(f"{url}/1")) == digest(model)
    assert asked == ["/1?tf-hub-format=compressed"]


@pytest.fixture
def locked(tmp_path: Path, model: Path) -> Iterator[tuple[int, list[tuple[str, str | None]]]]:
    """A server that wants a user and a password: (its port, the paths asked for, with what was given)."""
    packed = pack(tmp_path / "locked.tar.gz", model).read_bytes()
    asked: list[tuple[str, str | None]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            given = self.headers["Authorization"]
            asked.append((self.path, given))
            if self.path.startswith("/to?"):
                self.send_response(302)
                self.send_header("Location", self.path.partition("?")[2])
                self.end_headers()
                return
            known = given == "Basic " + base64.b64encode(b"me:p@ss/word").decode()
            self.send_response(200 if known or self.path.startswith("/open") else 401)
            self.send_header("Content-Length", str(len(packed)))
            self.end_headers()
            self.wfile.write(packed)

    with web.serve(Handler) as port:
        yield port, asked


def test_a_url_with_a_user_and_a_password(locked, model: Path) -> None:
    port, asked = locked
    url = f"http://me:p%40ss%2Fword@127.0.0.1:{port}"
    assert digest(resolve(f"{url}/m.tar.gz")) == digest(model)
    assert [path for path, _ in asked] == ["/m.tar.gz"]
    advice = "check the address, the network and your credentials"
    wrong = error(f"http://me:WRONGWORD@127.0.0.1:{port}/m.tar.gz?sig=TOPSECRET")
    assert (
        wrong == f"model http://***@127.0.0.1:{port}/m.tar.gz?***: cannot be fetched "
        f"(HTTP Error 401: Unauthorized); {advice}"
    )


def test_a_password_does_not_follow_to_another_server(locked, model: Path) -> None:
    port, asked = locked
    url = f"http://me:p%40ss%2Fword@127.0.0.1:{port}/to?http://127.0.0.1:{port}/here.tar.gz&tf-hub-format=x"
    assert digest(resolve(url)) == digest(model)
    assert [given is not None for _, given in asked] == [True, True]
    asked.clear()
    url = f"http://me:p%40ss%2Fword@127.0.0.1:{port}/to?http://localhost:{port}/open.tar.gz&tf-hub-format=x"
    assert digest(resolve(url)) == digest(model)
    assert [given is not None for _, given in asked] == [True, False]


def test_a_malformed_url_shows_no_secret() -> None:
    for url in (
        "https://me:TOPSECRET@[127.0.0.1/m?sig=TOPSECRET",
        "https://me:TOP/SECRET@127.0.0.1/m?sig=TOPSECRET",
        "https://127.0.0.1:TOPSECRET/m?sig=TOPSECRET",
        "http://me:TOPSECRET@[::1/m?sig=TOPSECRET",
    ):
        message = error(url)
        assert "TOP" not in message.replace("M", ""), message
        assert "\n" not in message


def test_a_model_is_found_without_tensorflow_and_beam(server, model: Path) -> None:
    url, folder, _ = server
    pack(folder / "m.tar.gz", model)
    code = f"""
import sys
from transforms.encoder.model.handle import digest, resolve
print(digest(resolve("{url}/m.tar.gz")))
print({{"apache_beam", "tensorflow", "tensorflow_hub"}} & set(sys.modules))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [digest(model), "set()"]


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("limit", ["members", "bytes", "bomb", "header"])
def test_an_archive_that_holds_too_much(
    server, tmp_path: Path, monkeypatch, limit: str, remote: bool
) -> None:
    url, folder, _ = server
    monkeypatch.setattr(archive, "MAX_MEMBERS", 20)
    monkeypatch.setattr(archive, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(archive, "_LONGEST_HEADER", 100_000)
    packed = folder / "m.tar.gz"
    with tarfile.open(packed, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for i in range(21 if limit == "members" else 1):
            info = tarfile.TarInfo(f"m/{i}")
            if limit == "header":
                info.pax_headers = {"comment": "x" * 200_000}
            info.size = {"bytes": (1 << 20) + 1, "bomb": 4 << 20}.get(limit, 1)
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    reason = {
        "members": "more than 20 files",
        "bytes": "more than 1,048,576 bytes unpacked",
        "bomb": "more than 1,048,576 bytes unpacked",
        "header": "a header of 200,192 bytes",
    }[limit]
    assert packed.stat().st_size < 10_000
    assert f"({reason})" in error(f"{url}/m.tar.gz" if remote else packed)
    assert list((tmp_path / "cache").rglob("*/*")) == []
    assert not (tmp_path / "tfhub").exists() or list((tmp_path / "tfhub").iterdir()) == []


def test_an_archive_that_links_out(tmp_path: Path) -> None:
    packed = tmp_path / "m.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        info = tarfile.TarInfo("m/link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(info)
    assert error(packed).startswith("model M: cannot be unpacked ('m/link' is a link to an absolute path")


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("https://me:secret@example.com/m?sig=abc#part", "https://***@example.com/m?***"),
        ("https://token@example.com:8080/m", "https://***@example.com:8080/m"),
        ("https://example.com/m?x=1", "https://example.com/m?***"),
        ("gs://bucket/model", "gs://bucket/model"),
        ("/a/path?with=marks", "/a/path?with=marks"),
        ("minilm", "minilm"),
        ("https://me:secret@[example.com/m?sig=abc", "https://***@[example.com/m?***"),
        ("https://[::1/m?sig=abc", "https://[::1/m?***"),
        ("https://me:sec/ret@example.com/m", "https://***@example.com/m"),
        ("https://me:sec?ret@example.com/m", "https://***@example.com/m"),
        ("http://127.0.0.1:9/m?mail=a@b", "http://127.0.0.1:9/m?***"),
        ("s3://bucket/a?c*.txt", "s3://bucket/a?c*.txt"),
        ("https://me:secret/m", "https://me:***/m"),
        ("hdfs://me:pw@host/m", "hdfs://***@host/m"),
    ],
)
def test_redact(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@given(text=st.text())
def test_redact_never_raises(text: str) -> None:
    for scheme in ("https", "s3"):
        assert "TOPSECRET" not in redact(f"{scheme}://me:TOPSECRET@{text}")
    assert "TOPSECRET" not in redact(f"https://host/{text}?sig=TOPSECRET")
    redact(text)
