"""``hf://org/repo[@revision]/file``: files of the Hugging Face hub, through its own client and cache."""

import re
from pathlib import Path
from urllib.parse import unquote

from ..download import verify
from ..errors import ZooError
from .cache import cache_folder, placed

_PATH = re.compile(r"hf://([\w.-]+)/([\w.-]+)(?:@([^/]+))?/(.+)")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def hub_file(path: str, sha256: str | None = None) -> Path:
    """The local file of an ``hf://`` path, fetched when the cache lacks it.

    Transfers resume and the cache is that of every program of the hub (``$HF_HOME``; ``$HF_HUB_OFFLINE=1``
    stays off the network). Large files are stored under their digest, which is verified; a file placed at
    ``hub/org/repo[@revision]/file`` in the zoo's cache comes first.

    Args:
        path: a revision that holds a slash has it written as ``%2F``.
        sha256: to be verified as well.

    Raises:
        ZooError: not such a path; no such file; no network; or a damaged file.
    """
    match = _PATH.fullmatch(path)
    if match is None or ".." in Path(match[4]).parts or match[4].startswith("/"):
        raise ZooError(f"{path}: write hf://organisation/repository/file, or .../repository@revision/file")
    organisation, name, revision, file = match[1], match[2], match[3], match[4]
    by_hand = f"hub/{path.removeprefix('hf://')}"
    if (found := placed((by_hand,), sha256)) is not None:
        return found
    local = _download(f"{organisation}/{name}", file, unquote(revision) if revision else None, path, by_hand)
    blob = local.resolve()
    for digest in (sha256, blob.name if _SHA256.fullmatch(blob.name) else None):
        if digest is not None:
            verify(blob, digest)
    return local


def _download(repository: str, file: str, revision: str | None, path: str, by_hand: str) -> Path:
    from huggingface_hub import hf_hub_download, hf_hub_url

    try:
        return Path(hf_hub_download(repository, file, revision=revision, library_name="itpn_d2"))
    except Exception as error:  # of the client, of its transport, of the file system: no common base
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        try:
            address = hf_hub_url(repository, file, revision=revision)
        except ValueError:  # a name the hub doesn't allow
            raise ZooError(f"{path}: {reason}") from error
        raise ZooError(
            f"{path}: can't be fetched ({reason}). Without a connection, download {address} elsewhere, "
            f"and place it at {cache_folder() / by_hand}"
        ) from error
