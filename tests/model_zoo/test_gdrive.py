"""Google Drive as a local server plays it: files, the page before large ones, and what it refuses."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from detectron2.utils.file_io import PathManager

from itpn_d2.errors import ZooError
from itpn_d2.model_zoo import gdrive
from itpn_d2.model_zoo.digests import record_file, recorded, trust_on_first_use
from itpn_d2.model_zoo.entry import Weights
from itpn_d2.model_zoo.weights_files import weights_file

CONTENT = bytes(range(256)) * 500
SMALL, LARGE, FULL, PRIVATE, GONE = (
    "small_file_1",
    "large_file_1",
    "too_popular1",
    "private_file",
    "missing_file",
)
FORM = """<html><form id="download-form" action="/download" method="get">Google Drive can't scan this file.
<input type="hidden" name="id" value="{}"><input type="hidden" name="confirm" value="t&amp;1">
<input type="hidden" name="uuid" value="77"><input type="submit"></form></html>"""


class Drive(BaseHTTPRequestHandler):
    def do_GET(self):
        query = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
        self.server.seen.append(query)
        identity = query["id"]
        if identity == GONE:
            return self.answer(b"<html>Sorry, the file you have requested does not exist.</html>", True, 404)
        if identity == FULL:
            page = b"<html><p>Sorry, too many users have viewed or downloaded this file recently.</p></html>"
            return self.answer(page, True)
        if identity == PRIVATE:
            return self.answer(b"<html><h1>You need access</h1></html>", True)
        if identity == LARGE and query.get("uuid") != "77":
            return self.answer(FORM.format(LARGE).encode(), True)
        begin = self.headers.get("Range", "")
        start = int(begin.removeprefix("bytes=").split("-")[0]) if begin else 0
        return self.answer(self.server.content[start:], False, 206 if begin else 200, start)

    def answer(self, body, page, status=200, start=0):
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8" if page else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        if status == 206:
            total = len(self.server.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def drive(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Drive)
    server.seen, server.content = [], CONTENT
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("ITPN_D2_GDRIVE", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("identity", [SMALL, LARGE])
def test_a_file_is_fetched_once(drive, identity, tmp_path):
    path = gdrive.fetch(f"gdrive://{identity}", tmp_path / "file.pth")
    assert path.read_bytes() == CONTENT
    before = len(drive.seen)
    assert gdrive.fetch(f"gdrive://{identity}", path) == path and len(drive.seen) == before
    if identity == LARGE:
        assert drive.seen[-1] == {"id": LARGE, "confirm": "t&1", "uuid": "77"}


@pytest.mark.parametrize(
    ("identity", "reason"), [(FULL, "too many people"), (PRIVATE, "not public"), (GONE, "404")]
)
def test_what_is_refused_is_named_with_the_link_for_a_browser(drive, identity, reason, tmp_path):
    with pytest.raises(ZooError, match=f"{reason}.*https://drive.google.com/file/d/{identity}"):
        gdrive.fetch(f"gdrive://{identity}", tmp_path / "file.pth")
    assert not list(tmp_path.glob("file*"))


@pytest.mark.parametrize("address", ["gdrive://", "gdrive://a/b", "gdrive://x?y", "gdrive://" + "x" * 200])
def test_other_addresses(address, tmp_path):
    with pytest.raises(ZooError, match="write gdrive://ID"):
        gdrive.fetch(address, tmp_path / "file.pth")


def test_nobody_there(tmp_path):
    with pytest.raises(ZooError, match="can't be fetched.*https://drive.google.com/file/d/abcdef"):
        gdrive.fetch("gdrive://abcdef", tmp_path / "file.pth")


def test_detectron2_loaders_take_the_address(drive, cache):
    assert PathManager.get_local_path(f"gdrive://{LARGE}") == str(cache / "gdrive" / LARGE)


def weights(**more):
    return Weights("some_weights.pth", "somebody", "MIT", url=f"gdrive://{SMALL}", **more)


def test_the_first_digest_is_recorded_and_has_to_stay(drive, cache):
    path = weights_file(weights())
    assert path == cache / "some_weights.pth"
    assert recorded() == {"some_weights.pth": hashlib.sha256(CONTENT).hexdigest()}
    path.unlink()
    drive.content = CONTENT[:-1] + b"x"
    with pytest.raises(ZooError, match=r"some_weights\.pth: sha256 is .* differs from the first download"):
        weights_file(weights())
    drive.content = CONTENT
    path.unlink()
    assert weights_file(weights()).read_bytes() == CONTENT


def test_a_published_digest_needs_no_record(drive, cache):
    weights_file(weights(sha256=hashlib.sha256(CONTENT).hexdigest()))
    assert recorded() == {}


def test_the_page_for_people_is_named():
    with pytest.raises(ZooError, match="in a browser: https://pan.example/x.*place some_weights.pth at"):
        weights_file(weights(page="https://pan.example/x"))


def test_a_spoilt_record_is_named(cache):
    cache.mkdir(parents=True)
    record_file().write_text("{")
    (cache / "a").write_text("a")
    with pytest.raises(ZooError, match=r"digests\.json: can't be read"):
        trust_on_first_use("a", cache / "a")
