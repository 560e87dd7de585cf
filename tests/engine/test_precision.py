import logging

import pytest
import torch

from itpn_d2.engine.precision import autocast, bf16_is_fast, choose_products, resolve_device, resolve_dtype

CPU = torch.device("cpu")


def test_auto_follows_the_hardware():
    assert resolve_dtype("auto", CPU) == (torch.bfloat16 if bf16_is_fast(CPU) else torch.float32)
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == CPU


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_autocast(name, dtype):
    assert resolve_dtype(name, CPU) == dtype
    with autocast(CPU, dtype):
        assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == dtype


@pytest.mark.parametrize("index", [None, 1])
@pytest.mark.parametrize(("major", "dtype"), [(7, torch.float16), (8, torch.bfloat16), (9, torch.bfloat16)])
@pytest.mark.parametrize("old", [False, True])
def test_a_gpu_that_only_emulates_bf16_gets_fp16(monkeypatch, major, dtype, old, index):
    """V100 and T4 are of compute capability 7; torch says that they support bfloat16, by emulation. GPU 1 is
    asked about, GPU 0 is another."""
    seen = [0]
    of = {0: 8 if major < 8 else 7, 1: major} if index else {0: major}

    class Device:
        def __init__(self, device):
            self.index = device.index

        def __enter__(self):
            seen.append(self.index)

        def __exit__(self, *_):
            seen.pop()

    def supported(including_emulation=True):
        return including_emulation or of[seen[-1]] >= 8

    monkeypatch.setattr(torch.cuda, "device", Device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(of))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", (lambda: True) if old else supported)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (of[seen[-1]], 0))
    assert resolve_dtype("auto", torch.device("cuda", index)) == dtype
    assert seen == [0]


@pytest.mark.parametrize("name", ["fp16", "float8", ""])
def test_refuses(name):
    with pytest.raises(ValueError, match="bf16"):
        resolve_dtype(name, CPU)


@pytest.fixture
def products():
    """The settings of this process, which are put back."""

    def told():
        cudnn = torch.backends.cudnn
        return torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark

    before = told()
    yield told
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before[1:]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), ("highest", True, False)),
        (("none", True), ("highest", False, True)),
        (("convolutions", True), ("highest", True, True)),
        (("all", False), ("high", True, False)),
    ],
)
def test_float32_products_on_a_gpu(products, given, expected, caplog):
    before = products()
    choose_products(CPU, *given)
    assert products() == before
    with caplog.at_level(logging.INFO):
        choose_products(torch.device("cuda"), *given)
    assert products() == expected
    assert "TF32" in caplog.text and ("does not benchmark" in caplog.text) == (not expected[2])
