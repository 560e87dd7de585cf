"""Every test of the zoo has a cache of its own."""

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache for every test, and no host behind any address."""
    monkeypatch.setenv("ITPN_D2_GDRIVE", "http://127.0.0.1:1")
    monkeypatch.setenv("ITPN_D2_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "model_zoo"
