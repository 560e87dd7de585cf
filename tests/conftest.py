"""A detector of a few weights, for whatever needs a trained one, and a web server on this machine."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate

from itpn_d2.checkpoint import atomic_save
from itpn_d2.engine import load_config

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "Quickstart" / "mask_rcnn_fast_itpn_nano.py"
CLASSES = ["disc", "square", "triangle", "star", "ring"]
MICRO = [
    "model.backbone.channels=[8,16,32]",
    "model.backbone.depths=[1,1,2]",
    "model.backbone.num_heads=2",
    "model.backbone.fpn_dim=16",
    "model.roi_heads.box_predictor.test_score_thresh=0.0",
    "model.roi_heads.box_predictor.test_topk_per_image=5",
]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a run: ``config.yaml`` and ``model_final.pth`` of a detector that has learned nothing,
    but finds five objects in every image."""
    folder = tmp_path_factory.mktemp("run")
    cfg = load_config(str(CONFIG), MICRO)
    # what a wider pyramid changes in the heads
    for node in (cfg.model.roi_heads.box_head, cfg.model.roi_heads.mask_head):
        node.input_shape.channels = 16
    cfg.model.proposal_generator.head.in_channels = 16
    cfg.dataset.num_classes, cfg.dataset.class_names = len(CLASSES), CLASSES
    LazyConfig.save(cfg, str(folder / "config.yaml"))
    torch.manual_seed(0)
    atomic_save({"model": instantiate(cfg.model).state_dict()}, folder / "model_final.pth")
    return folder


@pytest.fixture
def refused(capsys):
    """``with refused(words):`` a command ends within it as with a user error, saying what matches."""

    @contextmanager
    def check(words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            yield
        said = capsys.readouterr().err
        assert ended.value.code == 2 and re.search(words, said, re.DOTALL), said

    return check


@dataclass
class Site:
    """A server that knows ranges, breaks connections and changes files on request.

    Attributes:
        files: content by path.
        headers: further headers of every answer, by path.
        tag: gives files an entity tag.
        ranges: answers ``Range`` with a part.
        cut: bytes after which the next answers with a body end; one is taken for each.
        failures: statuses of the next answers.
        requests: method, path and ``Range`` of every request.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    tag: bool = True
    ranges: bool = True
    cut: list[int] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path, wanted = request.path.split("?")[0], request.headers.get("Range")
        self.requests.append((request.command, path, wanted))
        if self.failures or path not in self.files:
            request.send_response(self.failures.pop(0) if self.failures else 404)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        body = self.files[path]
        tag = f'"{hashlib.sha256(body).hexdigest()}"'
        start, status = 0, 200
        same = request.headers.get("If-Range") in (None, tag)
        if wanted and self.ranges and same:
            start, status = int(wanted.removeprefix("bytes=").split("-")[0]), 206
        if start >= len(body) and status == 206:
            request.send_response(416)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        request.send_response(status)
        if status == 206:
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if self.tag:
            request.send_header("ETag", tag)
        for name, value in self.headers.get(path, {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        if request.command == "GET":
            end = start + self.cut.pop(0) if self.cut else len(body)
            request.wfile.write(body[start:end])
            if end < len(body):
                request.close_connection = True


@pytest.fixture
def site() -> Iterator[Site]:
    served = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
