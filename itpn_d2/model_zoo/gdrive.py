"""``gdrive://ID``: public files of Google Drive."""

import html
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlencode, urljoin

from ..download import download
from ..errors import ZooError

PREFIX = "gdrive://"
# where files come from; another host, for a mirror or a test, by this variable
_HOST = "ITPN_D2_GDRIVE"
_DRIVE = "https://drive.usercontent.google.com"
_TIMEOUT = 20.0
_LIMITS = ("quota", "too many users have viewed or downloaded", "exceeded")


def page_of(identity: str) -> str:
    """The address by which people get the file in a browser."""
    return f"https://drive.google.com/file/d/{identity}"


def fetch(address: str, target: Path, sha256: str | None = None) -> Path:
    """The file of a ``gdrive://`` address, fetched to ``target`` unless that exists.

    A large file comes behind a page that asks for a confirmation, since it is not scanned for viruses: the
    page's form is sent, as a browser would.

    Raises:
        ZooError: not such an address; no network; the file is private or gone; or too many people have
            fetched it today. The message has the address for a browser.
    """
    identity = address.removeprefix(PREFIX)
    if not re.fullmatch(r"[\w-]{5,100}", identity):
        raise ZooError(f"{address}: write gdrive://ID, the ID from https://drive.google.com/file/d/ID")
    if target.is_file():
        return target
    host = os.environ.get(_HOST, _DRIVE)
    first = f"{host}/download?{urlencode({'id': identity, 'export': 'download', 'confirm': 't'})}"
    try:
        return download(_behind_the_page(first, identity), target, sha256)
    except ZooError as error:
        if page_of(identity) in str(error):
            raise
        raise ZooError(f"{error}. In a browser: {page_of(identity)}") from error


def _behind_the_page(url: str, identity: str) -> str:
    """``url`` where it is the file itself, else the address that the page's form leads to."""
    request = urllib.request.Request(url, headers={"User-Agent": "itpn-d2"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            if "text/html" not in response.headers.get("Content-Type", ""):
                return url
            page = response.read(1 << 20).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        page = error.read(1 << 20).decode("utf-8", "replace")
        raise ZooError(f"{PREFIX}{identity}: {_reason(page, f'{error.code} {error.reason}')}") from error
    except OSError as error:
        raise ZooError(f"{PREFIX}{identity}: can't be fetched ({getattr(error, 'reason', error)})") from error
    form = re.search(r"<form[^>]*\bid=\"download-form\"[^>]*>(.*?)</form>", page, re.DOTALL)
    if form is None:
        raise ZooError(f"{PREFIX}{identity}: {_reason(page, 'a web page was sent instead of the file')}")
    action = re.search(r"\baction=\"([^\"]*)\"", form[0])
    fields = {}
    for field in re.findall(r"<input[^>]*type=\"hidden\"[^>]*>", form[1]):
        name, value = (re.search(rf"\b{key}=\"([^\"]*)\"", field) for key in ("name", "value"))
        if name is not None:
            fields[html.unescape(name[1])] = html.unescape(value[1]) if value is not None else ""
    return f"{urljoin(url, html.unescape(action[1]) if action else '')}?{urlencode(fields)}"


def _reason(page: str, otherwise: str) -> str:
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    if any(word in text.lower() for word in _LIMITS):
        return "too many people have fetched it today; try again tomorrow, or from a browser with an account"
    if "sign in" in text.lower() or "need access" in text.lower():
        return "it is not public"
    return otherwise
