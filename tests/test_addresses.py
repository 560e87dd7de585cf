"""Addresses are written down without their secrets."""

import logging

import pytest

from itpn_d2.addresses import MaskAddresses, masked


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://user:secret@host/x.pth", "https://***@host/x.pth"),
        ("https://ghp_secret@host/x", "https://***@host/x"),
        ("s3://AKIA:se/cret@bucket/x", "s3://***@bucket/x"),
        ("ftp://secret@host/x and http://a:secret@c/", "ftp://***@host/x and http://***@c/"),
        ("https://me:sec?ret@host/x", "https://***@host/x"),
        ("https://host:8080/a@1/x", "https://host:8080/a@1/x"),
        ("https://host:8080?n=1", "https://host:8080?n=1"),
        ("hf://org/repo@revision/file", "hf://org/repo@revision/file"),
        ("(https://h/x?rlkey=secret&dl=1)", "(https://h/x?rlkey=***&dl=1)"),
        ("'https://h/x?download=true' ?a=b", "'https://h/x?download=true' ?a=b"),
        ("https://a:p@ss@host/x", "https://***@host/x"),
        ("https://host/x?token=secret", "https://host/x?token=***"),
        ("https://host/x?a=1&access_token=secret&b=2", "https://host/x?a=1&access_token=***&b=2"),
        ("https://host/x?X-Amz-Credential=a%2Fb&X-Amz-Signature=secret", None),
        ("https://host/x?api_key=secret#token=secret", None),
        ("https://host/x?sig=secret&se=1", "https://host/x?sig=***&se=1"),
        ("https://host/x?size=3&name=secret", "https://host/x?size=3&name=***"),
        ("tcp://user:secret@10.0.0.1:29500", "tcp://***@10.0.0.1:29500"),
        ("nothing@all token=1", "nothing@all token=1"),
        ("/data/a@b/c.pth", "/data/a@b/c.pth"),
    ],
)
def test_addresses(address, shown):
    found = masked(f"from {address} now")
    assert "secret" not in found and found.startswith("from ") and found.endswith(" now")
    if shown is not None:
        assert found == f"from {shown} now"


def test_a_log_hides_them(tmp_path):
    log = logging.getLogger("itpn_d2.test_addresses")
    handler = logging.FileHandler(tmp_path / "log.txt")
    handler.addFilter(MaskAddresses())
    log.addHandler(handler)
    try:
        raise ValueError("https://u:secret@host")
    except ValueError:
        log.exception("loading %s", "https://u:secret@host/x")
    log.removeHandler(handler)
    text = (tmp_path / "log.txt").read_text()
    assert "secret" not in text and "https://***@host/x" in text and "ValueError" in text
