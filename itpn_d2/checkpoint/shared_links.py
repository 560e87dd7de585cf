"""Links that people copy from a browser, which show a page about a file instead of the file."""

import re
from urllib.parse import parse_qs, unquote, urlsplit

_DRIVE = ("drive.google.com", "docs.google.com", "drive.usercontent.google.com")
_REPOSITORY_PAGE = re.compile(
    r"(?:hf://|https?://(?:www\.)?(?:huggingface\.co|hf\.co)/)([^/?#]+/[^/?#]+)(?:/tree/([^/?#]+))?/?(?:[?#].*)?"
)
_DRIVE_FILE = re.compile(r"(?:/a/[^/]+)?/file(?:/u/\d+)?/d/([\w-]+)(?:/|$)")


def behind_the_page(address: str) -> str:
    """The address of the file that a page of Google Drive, Hugging Face, GitHub or Dropbox shows; any other
    address as it is.

    Args:
        address: begins with http:// or https://.
    """
    parts = urlsplit(address)
    host, path = (parts.hostname or "").removeprefix("www."), parts.path
    steps = path.strip("/").split("/")
    if host in _DRIVE:
        found = _DRIVE_FILE.match(path)
        identity = found[1] if found else (parse_qs(parts.query).get("id") or [""])[0]
        return f"gdrive://{identity}" if identity else address
    if host in ("huggingface.co", "hf.co") and len(steps) > 4 and steps[2] == "blob":
        organisation, repository, _, revision, *file = steps
        return f"hf://{organisation}/{repository}@{revision}/{unquote('/'.join(file))}"
    if host == "github.com" and len(steps) > 4 and steps[2] == "blob":
        owner, repository, _, *rest = steps
        return f"https://github.com/{owner}/{repository}/raw/{'/'.join(rest)}"
    if host == "dropbox.com" and "dl=0" in parts.query.split("&"):
        query = "&".join("dl=1" if part == "dl=0" else part for part in parts.query.split("&"))
        return parts._replace(query=query).geturl()
    return address


def hub_repository(source: str) -> str:
    """``org/name`` or ``org/name@revision`` of the page of a repository of Hugging Face, or of its ``hf://``
    address; anything else as it is."""
    found = _REPOSITORY_PAGE.fullmatch(source)
    if found is None:
        return source
    return f"{found[1]}@{found[2]}" if found[2] else found[1]
