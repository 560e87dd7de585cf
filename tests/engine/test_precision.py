import pytest
import torch

from itpn_d2.engine.precision import autocast, bf16_is_fast, resolve_device, resolve_dtype

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


@pytest.mark.parametrize("name", ["fp16", "float8", ""])
def test_refuses(name):
    with pytest.raises(ValueError, match="bf16"):
        resolve_dtype(name, CPU)
