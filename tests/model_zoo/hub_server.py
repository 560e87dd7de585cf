"""As much of the Hugging Face hub as its own client asks for: making a repository, committing, reading."""

import base64
import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.file_download
import huggingface_hub.hf_api  # noqa: F401
import pytest


class HubServer:
    """Attributes:
    address: of the server.
    repositories: files by name, of each repository's name; every commit adds to them.
    private: what was said of each repository when it was made.
    refusal: None, or the status that everything but reading is answered with.
    """

    def __init__(self) -> None:
        self.address = ""
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.refusal: int | None = None

    def post(self, path: str, body: bytes) -> tuple[int, Any]:
        """Status and answer."""
        if self.refusal is not None:
            return self.refusal, {"error": "Invalid username or password."}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.repositories.setdefault(name, {})
            self.private[name] = asked.get("visibility") == "private" or bool(asked.get("private"))
            return 200, {"url": f"{self.address}/{name}"}
        name, action = "/".join(path.split("/")[3:5]), path.split("/")[5]
        if name not in self.repositories:
            return 404, {"error": "Repository not found"}
        if action == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            return 200, {"files": files}
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                value = line["value"]
                self.repositories[name][value["path"]] = base64.b64decode(value["content"])
        commit = hashlib.sha1(body).hexdigest()
        return 200, {"commitUrl": f"{self.address}/{name}/commit/{commit}", "commitOid": commit}

    def get(self, path: str) -> bytes | None:
        """The content of ``/org/name/resolve/main/FILE``."""
        organisation, name, resolve, revision, file = path.strip("/").split("/", 4)
        if (resolve, revision) != ("resolve", "main"):
            return None
        return self.repositories.get(f"{organisation}/{name}", {}).get(file)


@contextmanager
def serving() -> Iterator[HubServer]:
    """A hub on this machine."""
    hub = HubServer()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, found = hub.post(self.path.split("?")[0], body)
            self.answer(status, json.dumps(found).encode(), Content_Type="application/json")

        def do_GET(self) -> None:
            body = hub.get(self.path.split("?")[0])
            if body is None:
                self.answer(404, b"", X_Error_Code="EntryNotFound")
                return
            digest = hashlib.sha256(body).hexdigest()
            commit = hashlib.sha1(self.path.encode()).hexdigest()
            self.answer(200, body, X_Repo_Commit=commit, ETag=f'"{digest}"', X_Linked_Size=str(len(body)))

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield hub
    server.shutdown()
    server.server_close()


def redirect_client(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path) -> None:
    """The hub's client talks to the server at ``address``, and keeps its files below ``cache``.

    Earlier versions of the client hold copies of the constants in several modules.
    """
    changed = {
        "ENDPOINT": address,
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": False,
        "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
    }
    modules = [m for name, m in list(sys.modules.items()) if name.split(".")[0] == "huggingface_hub"]
    for module in modules:
        for name in changed.keys() & vars(module).keys():
            monkeypatch.setattr(module, name, changed[name])
