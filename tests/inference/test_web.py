"""The guard of the web page: whose requests, and how large."""

import asyncio

import pytest
from PIL import Image

from itpn_d2.data.decode import BrokenImageError
from itpn_d2.inference.web import Guard, check_pixels


async def application(scope, receive, send):
    """Reads its request and answers to every site."""
    received = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("gone")
        received += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    headers = [(b"Access-Control-Allow-Origin", b"*"), (b"x-seen", str(received).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"done"})


def ask(headers, chunks=(b"",), kind="http", guard=None):
    """What the guard sends."""
    sent, left = [], list(chunks)

    async def receive():
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "headers": [(k.encode(), v.encode()) for k, v in headers]}
    asyncio.run((guard or Guard(application, ["Demo.lan"], 1_000_000))(scope, receive, send))
    return sent


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:7860", "127.0.0.1:1", "[::1]:7860", "192.168.3.4", "demo.lan:80", "DEMO.LAN"],
)
def test_its_own_names(host):
    start, body = ask([("host", host), ("origin", f"http://{host}")])
    assert start["status"] == 200 and body["body"] == b"done"
    names = {key.lower() for key, _ in start["headers"]}
    assert b"access-control-allow-origin" not in names and b"content-security-policy" in names


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("host", "")],
        [("host", "evil.example")],
        [("host", "evil.example:7860")],
        [("host", "localhost.evil.example")],
        [("host", "localhost@evil.example")],
        [("host", "127.0.0.1.evil.example")],
        [("host", "[::1")],
        [("host", "localhost"), ("host", "evil.example")],
        [("host", "localhost"), ("origin", "http://evil.example")],
        [("host", "localhost:1"), ("origin", "http://localhost:2")],
        [("host", "localhost"), ("origin", "null")],
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_others_are_refused(headers, kind):
    sent = ask(headers, kind=kind)
    if kind == "websocket":
        assert [m["type"] for m in sent] == ["websocket.close"]
    else:
        assert sent[0]["status"] in (403, 421)
        assert not any(key.lower().startswith(b"access-control") for key, _ in sent[0]["headers"])


@pytest.mark.parametrize(
    ("length", "chunks", "status"),
    [
        ("1000000", [b"x" * 1_000_000], 200),
        (None, [b"x" * 100_000] * 10, 200),
        ("2000000", [b""], 413),
        ("9" * 40, [b""], 413),
        ("-5", [b""], 413),
        ("10", [b"x" * 100_000] * 30, 413),
        (None, [b"x" * 100_000] * 30, 413),
    ],
)
def test_sizes(length, chunks, status):
    headers = [("host", "localhost")] + ([("content-length", length)] if length else [])
    sent = ask(headers, chunks)
    assert [m.get("status") for m in sent] == [status, None]


def test_an_error_of_the_application_passes():
    async def broken(scope, receive, send):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        ask([("host", "localhost")], guard=Guard(broken))


def test_pixels_are_counted_before_they_are_decoded(tmp_path):
    Image.new("1", (3000, 2000)).save(tmp_path / "x.png")
    check_pixels(tmp_path / "x.png", 6)
    with pytest.raises(BrokenImageError, match="6 megapixels, 5.5 is the limit"):
        check_pixels(tmp_path / "x.png", 5.5)
    (tmp_path / "y.png").write_bytes(b"no image")
    with pytest.raises(BrokenImageError):
        check_pixels(tmp_path / "y.png", 5)
