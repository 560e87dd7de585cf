"""Files by HTTP: whole or absent, continued where they broke off, never a mixture of two versions."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from itpn_d2.download import download
from itpn_d2.errors import ZooError

BODY = bytes(range(256)) * 20_000  # 5 MB: several reads
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "model_zoo" / "weights.pth"


def fetch(site, target, sha256=DIGEST, **options):
    return download(f"{site.address}/weights.pth", target, sha256, **{"pause": 0.0, **options})


def left_over(target):
    return sorted(p.name for p in target.parent.iterdir() if p != target and not p.name.endswith(".lock"))


@pytest.mark.parametrize("sha256", [DIGEST, None])
def test_a_file_arrives_whole_and_is_not_fetched_again(site, target, sha256):
    site.files["/weights.pth"] = BODY
    assert fetch(site, target, sha256) == target
    assert target.read_bytes() == BODY and not left_over(target)
    fetch(site, target, sha256)
    assert site.requests == [("GET", "/weights.pth", None)]


@pytest.mark.parametrize("sha256", [DIGEST, None])
def test_a_broken_transfer_goes_on_where_it_ended(site, target, sha256):
    site.files["/weights.pth"], site.cut = BODY, [3_000_000, 1_500_000]
    fetch(site, target, sha256)
    assert target.read_bytes() == BODY and not left_over(target)
    assert [r[2] for r in site.requests] == [None, "bytes=3000000-", "bytes=4500000-"]


def test_the_next_call_goes_on_too(site, target):
    site.files["/weights.pth"], site.cut = BODY, [2_000_000]
    with pytest.raises(ZooError, match="2000000 of 5120000 bytes.*2000000 bytes are kept"):
        fetch(site, target, attempts=1)
    assert not target.exists()
    fetch(site, target)
    assert target.read_bytes() == BODY and site.requests[-1][2] == "bytes=2000000-"


def test_a_file_that_has_changed_meanwhile_starts_anew(site, target):
    site.files["/weights.pth"], site.cut = BODY, [2_000_000]
    with pytest.raises(ZooError):
        fetch(site, target, None, attempts=1)
    site.files["/weights.pth"] = BODY[::-1]
    fetch(site, target, None)
    assert target.read_bytes() == BODY[::-1]


def test_without_tag_and_digest_nothing_is_continued(site, target):
    site.files["/weights.pth"], site.cut, site.tag = BODY, [2_000_000], False
    fetch(site, target, None)
    assert target.read_bytes() == BODY and [r[2] for r in site.requests] == [None, None]


def test_a_server_without_ranges(site, target):
    site.files["/weights.pth"], site.cut, site.ranges = BODY, [2_000_000], False
    fetch(site, target)
    assert target.read_bytes() == BODY


def test_another_address_does_not_continue_the_file(site, target):
    site.files["/weights.pth"], site.files["/other.pth"], site.cut = BODY, BODY[::-1], [2_000_000]
    with pytest.raises(ZooError):
        fetch(site, target, attempts=1)
    download(f"{site.address}/other.pth", target)
    assert target.read_bytes() == BODY[::-1] and site.requests[-1][2] is None


def test_another_file_than_expected_is_removed(site, target):
    site.files["/weights.pth"] = BODY[:-1] + b"x"
    with pytest.raises(ZooError, match=f"{DIGEST} was expected"):
        fetch(site, target)
    assert not target.exists() and not left_over(target)
    site.files["/weights.pth"] = BODY
    assert fetch(site, target).read_bytes() == BODY


def test_a_partial_file_larger_than_the_whole(site, target):
    site.files["/weights.pth"], site.cut = BODY, [2_000_000]
    with pytest.raises(ZooError):
        fetch(site, target, attempts=1)
    site.files["/weights.pth"] = b"short"
    fetch(site, target, hashlib.sha256(b"short").hexdigest())
    assert target.read_bytes() == b"short"


def test_what_may_pass_is_tried_again(site, target):
    site.files["/weights.pth"], site.failures = BODY, [503, 429]
    assert fetch(site, target).read_bytes() == BODY
    site.failures = [500] * 4
    with pytest.raises(ZooError, match="can't be fetched .500"):
        download(f"{site.address}/weights.pth", target.with_name("b.pth"), pause=0.0)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_not(site, target, status):
    site.failures = [status]
    with pytest.raises(ZooError, match=f"refuses it .{status}"):
        fetch(site, target)
    assert len(site.requests) == 1 and not target.exists()


def test_nobody_there(target):
    with pytest.raises(ZooError, match="http://127.0.0.1:1/x: can't be fetched .*[Rr]efused"):
        download("http://127.0.0.1:1/x", target, attempts=2, pause=0.0)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://x/y", "weights.pth"])
def test_only_addresses_of_the_web(target, url):
    with pytest.raises(ZooError, match="not an address"):
        download(url, target)


def test_several_at_once_fetch_it_once(site, target):
    site.files["/weights.pth"] = BODY
    together = threading.Barrier(3)

    def one(_):
        together.wait()
        return fetch(site, target).read_bytes()

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(one, range(3))) == [BODY] * 3
    assert len(site.requests) == 1
