"""A guard around an ASGI application, which protects a local web page from other sites on the network.

A page that answers to any ``Host`` can be read by every web site that points a name of its own at this
machine (DNS rebinding), and an upload without a limit fills memory and disk.
"""

import ipaddress
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..data.decode import BrokenImageError, open_image

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_POLICY = b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self' ws: wss:"
_ADDED = [
    (b"content-security-policy", _POLICY),  # nothing from other hosts, whatever a library would like
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_OVERHEAD = 1 << 16  # bytes of a request beside the file in it


class Guard:
    """Lets requests of the page itself to this machine through, up to a size limit.

    Args:
        app: the guarded application.
        hosts: host names under which the page is served, in addition to ``localhost`` and numeric addresses.
        largest: bytes of an upload.
    """

    def __init__(self, app: App, hosts: Collection[str] = (), largest: int = 20_000_000):
        self.app, self.largest = app, largest + _OVERHEAD
        self.hosts = {"localhost", *(host.lower() for host in hosts)}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Hand a request (ASGI) to the application, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope["headers"])
        if refusal is not None:
            await _refuse(scope["type"], send, *refusal)
        elif scope["type"] == "websocket":
            await self.app(scope, receive, send)
        else:
            await self._bounded(scope, receive, send)

    def _refusal(self, headers: Collection[tuple[bytes, bytes]]) -> tuple[int, str] | None:
        """Status and reason, None where there is none."""

        def values(name: bytes) -> list[str]:
            return [value.decode("latin-1") for key, value in headers if key.lower() == name]

        hosts, origins, lengths = values(b"host"), values(b"origin"), values(b"content-length")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return 421, "This page is not served under that host name; --allow-host NAME allows it."
        if any(origin.partition("://")[2].lower() != hosts[0].lower() for origin in origins):
            return 403, "Only the page itself may send requests."
        if any(not length.isdecimal() or int(length[:20]) > self.largest for length in lengths):
            return 413, "The file is too large."
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)  # a name that others control is none
        except ValueError:
            return False
        return True

    async def _bounded(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """The application with a limit to what it receives, and its answer without leave for other sites."""
        left, started = self.largest, False

        async def receive_some() -> Message:
            nonlocal left
            message = await receive() if left >= 0 else {"type": "http.disconnect"}
            left -= len(message.get("body", b""))
            return message if left >= 0 else {"type": "http.disconnect"}

        async def send_ours(message: Message) -> None:
            nonlocal started
            if left < 0 and not started:
                return  # the refusal below
            if message["type"] == "http.response.start":
                started = True
                kept = [
                    h for h in message.get("headers", ()) if not h[0].lower().startswith(b"access-control-")
                ]
                message = {**message, "headers": [*kept, *_ADDED]}
            await send(message)

        try:
            await self.app(scope, receive_some, send_ours)
        except Exception:
            if left >= 0 or started:
                raise
        if left < 0 and not started:
            await _refuse("http", send, 413, "The file is too large.")


async def _refuse(kind: str, send: Send, status: int, reason: str) -> None:
    if kind == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": reason})
        return
    body = reason.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *_ADDED]})
    await send({"type": "http.response.body", "body": body})


def check_pixels(path: str | Path, megapixels: float) -> None:
    """Look at the size of an image before it is decoded: a file of half a megabyte can hold 170 megapixels.

    Raises:
        BrokenImageError: it has more than ``megapixels``, or is no image.
    """
    with open_image(str(path)) as image:
        found = image.width * image.height / 1e6
    if found > megapixels:
        raise BrokenImageError(f"it has {found:.0f} megapixels, {megapixels:g} is the limit here")
