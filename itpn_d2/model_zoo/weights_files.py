"""From weights of the zoo, of the hub or of Google Drive to a file of this machine."""

from pathlib import Path

from .. import boxed
from ..checkpoint.shared_links import behind_the_page
from ..download import download
from ..errors import ZooError
from . import gdrive
from .cache import cache_folder, placed
from .digests import trust_on_first_use
from .entry import Weights
from .hub import hub_file
from .registry import find_weights

PREFIX = "itpn://"


def weights_file(weights: Weights) -> Path:
    """The local file of published weights, fetched when the cache lacks it; of our own,
    that of the package.

    Raises:
        ZooError: no network, or nobody gave an address, and it has not been placed either; or another digest.
    """
    found = present(weights)
    if found is None:
        found = _fetched(weights)
    if weights.sha256 is None and not _is_ours(weights):
        trust_on_first_use(weights.file, found)
    return found


def present(weights: Weights) -> Path | None:
    """The file, where it is there without being fetched: in the package or in the cache.

    Raises:
        ZooError: its digest is another one.
    """
    if _is_ours(weights):
        return boxed.boxed_weights(str(weights.url))
    return placed((weights.file, *weights.aliases), weights.sha256)


def _is_ours(weights: Weights) -> bool:
    return weights.url is not None and weights.url.startswith(boxed.PREFIX)


def _fetched(weights: Weights) -> Path:
    place = cache_folder() / weights.file
    if weights.url is None:
        raise ZooError(
            f"{weights.file}: it has no address from which a program could download it. It is published "
            f"by {weights.publisher}{_for_people(weights)}. Place it at {place}"
        )
    url = behind_the_page(weights.url)
    try:
        if url.startswith("hf://"):
            return hub_file(url, weights.sha256)
        if url.startswith(gdrive.PREFIX):
            return gdrive.fetch(url, place, weights.sha256)
        return download(url, place, weights.sha256)
    except ZooError as error:
        digest = f" (sha256 {weights.sha256})" if weights.sha256 else ""
        raise ZooError(
            f"{error}{_for_people(weights)}. Without network: place {weights.file}{digest} at {place}"
        ) from error


def _for_people(weights: Weights) -> str:
    return f" (in a browser: {weights.page})" if weights.page else ""


def find(address: str) -> Path:
    """The local file of an address, fetched when the cache lacks it.

    Args:
        address: ``itpn://FILE`` or ``itpn://ENTRY``, weights that an entry of the zoo names;
            ``hf://org/repo[@revision]/file``, see :func:`~itpn_d2.model_zoo.hub.hub_file`; ``gdrive://ID``,
            see :func:`~itpn_d2.model_zoo.gdrive.fetch`.

    Raises:
        ZooError: no such weights or not such an address, they can't be fetched, or the file is damaged or
            another one than the first time.
    """
    if address.startswith(PREFIX):
        return weights_file(find_weights(address.removeprefix(PREFIX)))
    if address.startswith(gdrive.PREFIX):
        name = f"gdrive/{address.removeprefix(gdrive.PREFIX)}"
        found = gdrive.fetch(address, cache_folder() / name)
        trust_on_first_use(name, found)
        return found
    return hub_file(address)
