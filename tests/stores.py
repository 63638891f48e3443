"""Object stores on this machine: moto's S3, fake-gcs-server, Azurite, a proxy that misbehaves for a while."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import hmac
import os
import re
import select
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import jobs

KEY, SECRET = "key-of-the-test", "secret-of-the-test-8c1f"
# The account that Azurite comes with; it is in its documentation.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
AZURITE = "3.35.0"
ROOT = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def server(kind: str) -> Iterator[Store]:
    """A running store of a scheme (s3, gs, az), with what the environment must say for it."""
    import pytest

    if kind == "az" and (azurite := azurite_command()) is None:
        pytest.skip("needs npm")
    running = {
        "s3": s3_server,
        "gs": lambda: gcs_server(gcs_binary()),
        "az": lambda: azure_server(azurite),
    }[kind]()
    with running as store, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_GCE_CHECK", "true")  # no search for a cloud machine's own credentials
        for name, value in store.environment().items():
            patch.setenv(name, value)
        yield store


class Store:
    """A running store.

    Attributes:
      scheme: s3, gs or az.
      port: where it listens, on 127.0.0.1.
    """

    def __init__(self, scheme: str, port: int):
        self.scheme, self.port = scheme, port

    def url(self, path: str) -> str:
        return f"{self.scheme}://bucket/{path}"

    def flags(self, port: int | None = None) -> list[str]:
        """Beam's options for it."""
        if self.scheme == "gs":
            return ["--no_auth"]
        if self.scheme == "az":
            endpoint = f"http://127.0.0.1:{port or self.port}/{AZURE_ACCOUNT}"
            text = f"AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};BlobEndpoint={endpoint};"
            return [f"--azure_connection_string={text}"]
        endpoint = f"http://127.0.0.1:{port or self.port}"
        keys = [f"--s3_access_key_id={KEY}", f"--s3_secret_access_key={SECRET}"]
        return [f"--s3_endpoint_url={endpoint}", "--s3_region_name=us-east-1", *keys]

    def environment(self, port: int | None = None) -> dict[str, str]:
        return (
            {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port or self.port}"} if self.scheme == "gs" else {}
        )

    def written(self, data: bytes) -> str | None:
        """The name in out/ that a client's bytes begin to write, if they do."""
        pattern = rb"(?:PUT|POST) /bucket/out/([^ ?]+)" if self.scheme == "s3" else rb'"name": ?"out/([^"]+)"'
        found = re.search(pattern, data)
        return found[1].decode() if found else None

    def objects(self) -> dict[str, bytes]:
        """Everything in the bucket, asked of the server without Beam."""
        if self.scheme == "az":
            import obstore

            found = [meta["path"] for page in obstore.list(self.client()) for meta in page]
            return {key: obstore.get(self.client(), key).bytes().to_bytes() for key in found}
        if self.scheme == "s3":
            client = self.client()
            pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket")
            keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
            return {key: client.get_object(Bucket="bucket", Key=key)["Body"].read() for key in keys}
        return {blob.name: blob.download_as_bytes() for blob in self.client().list_blobs("bucket")}

    def put(self, key: str, data: bytes) -> None:
        if self.scheme == "az":
            self.client().put(key, data)
        elif self.scheme == "s3":
            self.client().put_object(Bucket="bucket", Key=key, Body=data)
        else:
            self.client().bucket("bucket").blob(key).upload_from_string(data)

    def put_folder(self, key: str, folder: Path) -> None:
        for file in (path for path in folder.rglob("*") if path.is_file()):
            self.put(f"{key}/{file.relative_to(folder).as_posix()}", file.read_bytes())

    def clear(self) -> None:
        for key in self.objects():
            if self.scheme == "az":
                self.client().delete(key)
            elif self.scheme == "s3":
                self.client().delete_object(Bucket="bucket", Key=key)
            else:
                self.client().bucket("bucket").blob(key).delete()

    def make_bucket(self) -> None:
        if self.scheme == "az":
            _make_container(self.port)
        elif self.scheme == "s3":
            self.client().create_bucket(Bucket="bucket")
        else:
            self.client().create_bucket("bucket")

    def client(self):
        endpoint = f"http://127.0.0.1:{self.port}"
        if self.scheme == "az":
            from obstore.store import AzureStore

            account = {"account_name": AZURE_ACCOUNT, "account_key": AZURE_KEY}
            config = {**account, "endpoint": f"{endpoint}/{AZURE_ACCOUNT}"}
            return AzureStore("bucket", config=config, client_options={"allow_http": True})
        if self.scheme == "s3":
            import boto3

            keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
            return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        options = {"api_endpoint": endpoint}
        return storage.Client("project", credentials=AnonymousCredentials(), client_options=options)


def free_port() -> int:
    from processes import free_ports

    return free_ports(1)[0]


@contextlib.contextmanager
def s3_server() -> Iterator[Store]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        store = Store("s3", server.get_host_and_port()[1])
        store.make_bucket()
        store.clear()  # moto's objects are this process's, whichever server they were put to
        yield store
    finally:
        server.stop()


def gcs_binary() -> Path:
    """fake-gcs-server in the cache, put there by the project's script where it is missing."""
    cache = Path(os.environ.get("EMBEDBEAM_CACHE") or "~/.cache/embedbeam").expanduser()
    binary = cache / "clusters" / "fake-gcs-server" / "fake-gcs-server"
    if not binary.exists():
        subprocess.run([sys.executable, str(ROOT / "tools/clusters/fetch.py"), "fake-gcs-server"], check=True)
    return binary


@contextlib.contextmanager
def gcs_server(binary: Path) -> Iterator[Store]:
    port = free_port()
    address = f"127.0.0.1:{port}"
    flags = ["-scheme=http", "-backend=memory", "-host=127.0.0.1", f"-port={port}", "-log-level=error"]
    command = [str(binary), *flags, "-external-url=", f"-public-host={address}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, preexec_fn=jobs.end_with_tests, **quiet) as process:
        try:
            end = time.monotonic() + 20
            while time.monotonic() < end:
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}/storage/v1/b"):
                    break
                time.sleep(0.05)
            store = Store("gs", port)
            store.make_bucket()
            yield store
        finally:
            process.terminate()


def azurite_command() -> list[str] | None:
    """Azurite in the cache, put there by npm where it is missing; None without npm."""
    cache = (
        Path(os.environ.get("EMBEDBEAM_CACHE") or "~/.cache/embedbeam").expanduser() / "clusters" / "azurite"
    )
    program = cache / "node_modules" / ".bin" / "azurite-blob"
    if not program.exists():
        if shutil.which("npm") is None:
            return None
        cache.mkdir(parents=True, exist_ok=True)
        install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(cache), f"azurite@{AZURITE}"]
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL)
    return [str(program), "--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]


@contextlib.contextmanager
def azure_server(command: list[str]) -> Iterator[Store]:
    port = free_port()
    command = [*command, f"--blobPort={port}"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process,
    ):
        try:
            end = time.monotonic() + 60
            while time.monotonic() < end:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
            store = Store("az", port)
            store.make_bucket()
            yield store
        finally:
            process.terminate()


def _make_container(port: int) -> None:
    """A signed PUT: obstore has no word for it."""
    own = f"x-ms-date:{email.utils.formatdate(usegmt=True)}\nx-ms-version:2021-08-06"
    text = f"PUT{12 * chr(10)}{own}\n/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/bucket\nrestype:container"
    signed = hmac.new(base64.b64decode(AZURE_KEY), text.encode(), hashlib.sha256).digest()
    headers = dict(line.split(":", 1) for line in own.splitlines())
    headers["Authorization"] = f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(signed).decode()}"
    url = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}/bucket?restype=container"
    urllib.request.urlopen(urllib.request.Request(url, headers=headers, method="PUT")).close()


class Proxy:
    """Passes connections on to a port, or does to them what `trouble` says of the bytes that a client sends.

    `trouble` gets the bytes as they come, a request's head or some of its body, and returns None, "503" or
    "reset" (the connection is cut).
    """

    def __init__(self, port: int, trouble: Callable[[bytes], str | None]):
        self.made: list[str] = []
        proxy = self
        self._place = f"Location: http://127.0.0.1:{port}/".encode()

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.create_connection(("127.0.0.1", port)) as server:
                    proxy.carry(self.request, server, trouble)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]

    def carry(self, client: socket.socket, server: socket.socket, trouble) -> None:
        while True:
            ready, _, _ = select.select([client, server], [], [])
            for source in ready:
                try:
                    data = source.recv(1 << 16)
                except OSError:
                    return
                if not data:
                    return
                kind = trouble(data) if source is client else None
                if kind is None:
                    # Where to send an upload's blocks is an answer of the server: here again.
                    here = f"Location: http://127.0.0.1:{self.port}/".encode()
                    (server if source is client else client).sendall(data.replace(self._place, here))
                    continue
                self.made.append(kind)
                if kind == "503":
                    client.sendall(
                        b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    )
                else:  # RST instead of FIN
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    client.close()
                return

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
