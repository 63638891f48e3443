"""Servers that speak as much of the model hubs' protocols as their own clients ask for."""

import base64
import contextlib
import dataclasses
import hashlib
import http.server
import io
import json
import re
import tarfile
import threading
import urllib.parse
from pathlib import Path

import web

TOKEN = "hf_TOPSECRETtoken"
ARCHIVE = "archive.tar.gz"  # of all the files of a model, as Kaggle gives it
_LFS = re.compile(r"\.(safetensors|bin|pb|h5|onnx)$|variables\.data")


def files_of(folder, below=""):
    """A folder's files as a hub has them: name -> bytes."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {below + path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def packed(files):
    """An archive of files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@dataclasses.dataclass
class Repository:
    """One of the Hugging Face Hub's."""

    commits: dict = dataclasses.field(default_factory=dict)  # commit -> name -> bytes
    refs: dict = dataclasses.field(default_factory=dict)
    gated: bool = False

    def commit(self, files, ref="main"):
        sha = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[sha], self.refs[ref] = dict(files), sha
        return sha


@dataclasses.dataclass
class Hub:
    """What a server has, what it was asked, and how it fails."""

    url: str = ""
    other_url: str = ""  # the same server under another name, where large files lie
    repositories: dict = dataclasses.field(default_factory=dict)
    asked: list = dataclasses.field(default_factory=list)  # (method, path, token)
    status: dict = dataclasses.field(default_factory=dict)  # beginning of a path -> HTTP status, or several
    cut: dict = dataclasses.field(
        default_factory=dict
    )  # end of a path -> bytes after which it breaks off, or several

    goes_on: threading.Event = dataclasses.field(default_factory=threading.Event)  # what is cut waits for it

    def put(self, name, files, ref="main"):
        return self.repositories.setdefault(name, Repository()).commit(files, ref)

    def fails(self, path):
        """The status that a path is refused with; of a list each once."""
        for beginning, status in self.status.items():
            if path.startswith(beginning) and status:
                return status.pop(0) if isinstance(status, list) else status
        return None

    def cuts(self, name):
        """After how many bytes a file breaks off; of a list each once."""
        for end, size in self.cut.items():
            if name.endswith(end) and size:
                return size.pop(0) if isinstance(size, list) else size
        return None

    def downloads(self):
        """Names of the files whose bytes were asked for."""
        found = (re.search(r"/(?:resolve/\w+|lfs/\w+)/(.*)", path) for m, path, _ in self.asked if m == "GET")
        return sorted(urllib.parse.unquote(one[1].partition("?")[0]) for one in found if one)


class _Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        pass

    def send(self, status, body=b"", **headers):
        self.send_response(status)
        headers = {"Content-Length": str(len(body))} | headers
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_json(self, value, status=200, **headers):
        self.send(status, json.dumps(value).encode(), Content_Type="application/json", **headers)

    def send_file(self, data, cut=None, **headers):
        """A file, or what a Range header asks for; `cut` ends the connection after so many bytes."""
        start = int((re.match(r"bytes=(\d+)-", self.headers["Range"] or "") or [0, 0])[1])
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        body = data[start:]
        self.close_connection = cut is not None
        self.send_response(206 if start else 200)
        headers = {"Content-Length": str(len(body)), "Accept-Ranges": "bytes"} | headers
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
            if cut is not None:
                self.wfile.flush()
                self.goes_on.wait(60)


def _hugging_face(hub):
    class Handler(_Answers):
        goes_on = hub.goes_on

        def refuse(self, status, code, text):
            self.send_json({"error": text}, status, X_Error_Code=code, X_Error_Message=text)

        def do_GET(self):
            path, _, query = self.path.partition("?")
            hub.asked.append((self.command, self.path, self.headers["Authorization"]))
            if status := hub.fails(path):
                return self.send_json({"error": "no"}, status)
            if lfs := re.fullmatch(r"/lfs/(\w+)/(.*)", path):
                return self.send_blob(*lfs.groups())
            parts = re.fullmatch(
                r"(?:/api/models/(?P<a>[^/]+/[^/]+)(?:/(?P<what>revision|tree)/(?P<rev>[^/]+))?"
                r"|/(?P<b>[^/]+/[^/]+)/resolve/(?P<at>[^/]+)/(?P<file>.*))",
                path,
            )
            repository = hub.repositories.get(parts["a"] or parts["b"]) if parts else None
            if repository is None:
                return self.refuse(401, "RepoNotFound", "Repository not found")
            revision = urllib.parse.unquote(parts["rev"] or parts["at"] or "main")
            sha = repository.refs.get(revision, revision)
            if sha not in repository.commits:
                return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            files = repository.commits[sha]
            if parts["a"] and parts["what"] != "tree":
                siblings = [{"rfilename": name} for name in files]
                return self.send_json(
                    {"id": parts["a"], "modelId": parts["a"], "sha": sha, "siblings": siblings}
                )
            if repository.gated and self.headers["Authorization"] != f"Bearer {TOKEN}":
                return self.refuse(403, "GatedRepo", f"Access to model {parts['b']} is restricted.")
            if parts["what"] == "tree":
                return self.send_tree(files, path, query)
            return self.send_resolved(files, sha, urllib.parse.unquote(parts["file"]))

        do_HEAD = do_GET

        def send_tree(self, files, path, query):
            """Five a page, as the Hub gives a thousand."""
            first = int(urllib.parse.parse_qs(query).get("cursor", ["0"])[0])
            folders = sorted({str(parent) for name in files for parent in Path(name).parents} - {"."})
            found = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": name} for name in folders]
            for name, data in files.items():
                one = {"type": "file", "oid": hashlib.sha1(data).hexdigest(), "size": len(data), "path": name}
                if _LFS.search(name):
                    sha = hashlib.sha256(data).hexdigest()
                    one["lfs"] = {"oid": sha, "size": len(data), "pointerSize": 134}
                found.append(one)
            more = {}
            if first + 5 < len(found):
                link = f"{hub.url}{path}?{urllib.parse.urlencode({'recursive': 'True', 'cursor': first + 5})}"
                more = {"Link": f'<{link}>; rel="next"'}
            self.send_json(found[first : first + 5], **more)

        def send_resolved(self, files, sha, name):
            if name not in files:
                return self.refuse(404, "EntryNotFound", "Entry not found")
            data, about = files[name], {"X_Repo_Commit": sha}
            if not _LFS.search(name):
                return self.send_file(data, ETag=f'"{hashlib.sha1(data).hexdigest()}"', **about)
            blob = hashlib.sha256(data).hexdigest()
            about |= {"X_Linked_ETag": f'"{blob}"', "X_Linked_Size": str(len(data))}
            location = f"{hub.other_url}/lfs/{blob}/{name}?X-Signature=TOPSECRETsignature"
            self.send(302, Location=location, **about)

        def send_blob(self, blob, name):
            for repository in hub.repositories.values():
                for files in repository.commits.values():
                    data = files.get(name, b"")
                    if hashlib.sha256(data).hexdigest() == blob:
                        cut = hub.cuts(name)
                        return self.send_file(data, cut, ETag=f'"{blob}"')
            self.send(404)

    return Handler


def _kaggle(hub):
    """As a proxy, since the client has no address of its own that could be set: `http_proxy` leads here."""

    class Handler(_Answers):
        goes_on = hub.goes_on

        def do_GET(self):
            name = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).removeprefix("/files/")
            hub.asked.append(("GET", name, self.headers["Authorization"]))
            model, _, file = name.partition("//")
            files = hub.repositories[model]
            data = files[file] if file != ARCHIVE else packed(files)
            cut = hub.cuts(name)
            md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
            self.send_file(data, cut, X_Goog_Hash=f"crc32c=AAAAAA==,md5={md5}")

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            what = self.path.rpartition("/")[2]
            hub.asked.append((what, asked.get("path", ""), self.headers["Authorization"]))
            if status := hub.fails(what):
                return self.send_json({"code": status, "message": f"no, status {status}"}, status)
            keys = ("ownerSlug", "modelSlug", "framework", "instanceSlug")
            name = "/".join(str(asked[key]).lower().removeprefix("model_framework_") for key in keys)
            versions = [int(key.rpartition("/")[2]) for key in hub.repositories if key.startswith(f"{name}/")]
            number = asked.get("versionNumber") or max(versions, default=0)
            if number not in versions:
                return self.send_json({"code": 404, "message": f"Not found: {name}/{number}"}, 404)
            files = hub.repositories[f"{name}/{number}"]
            if what == "GetModelInstance":
                return self.send_json({"slug": asked["instanceSlug"], "versionNumber": number})
            if what == "ListModelInstanceVersionFiles":
                size = asked["pageSize"]
                listed, more = [{"name": name} for name in files][:size], "more" if len(files) > size else ""
                return self.send_json({"files": listed, "nextPageToken": more})
            location = (
                f"http://storage/files/{name}/{number}//{urllib.parse.quote(asked.get('path', ARCHIVE))}"
            )
            return self.send(302, Location=f"{location}?X-Goog-Signature=TOPSECRETsignature")

    return Handler


@contextlib.contextmanager
def hugging_face():
    """A Hugging Face Hub on this machine; its large files come from another host's name."""
    hub = Hub()
    hub.goes_on.set()
    with web.serve(_hugging_face(hub)) as port:
        hub.url, hub.other_url = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        yield hub


@contextlib.contextmanager
def kaggle():
    """A Kaggle on this machine, for a client that has `hub.url` as its `http_proxy`."""
    hub = Hub()
    hub.goes_on.set()
    with web.serve(_kaggle(hub)) as port:
        hub.url = f"http://127.0.0.1:{port}"
        yield hub
