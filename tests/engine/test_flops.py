"""What a step computes: counted in the first one, as a rate in the metrics."""

import pytest
import torch

from itpn_d2.engine.flops import flop_counter, peak_tflops, throughput
from itpn_d2.errors import ConfigError
from tests.engine.test_nothing_is_lost import small
from tests.engine.test_trainer import batches, build


@pytest.mark.parametrize("accumulate", [1, 2])
def test_products_of_both_passes(tmp_path, accumulate):
    """4 to 16 and 16 to 1 channels; the images need no gradient."""
    forward = 2 * 4 * 16 + 2 * 16
    backward = 2 * 4 * 16 + 2 * (2 * 16)
    counting, record, _ = build(tmp_path / "a", 3, accumulate, count_flops=True)
    counting.set_data(batches(6))
    counting.train(0, 3)
    assert counting.flops == 6 * accumulate * (forward + backward)
    assert counting.storage.latest()["tflops"][0] > 0 and "mfu" not in counting.storage.latest()
    plain, expected, _ = build(tmp_path / "b", 3, accumulate)
    plain.set_data(batches(6))
    plain.train(0, 3)
    assert record.losses == expected.losses and "tflops" not in plain.storage.latest()


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA A1000", None),
        ("Some GPU", None),
    ],
)
def test_peaks(name, peak, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_tflops(name, torch.bfloat16) == peak and peak_tflops(name, torch.float32) is None
    found = throughput(4 * 10**14, 2.0, torch.device("cuda"), torch.bfloat16)
    assert found == ({"tflops": 200.0, "mfu": 200 / peak} if peak else {"tflops": 200.0})
    assert throughput(0, 1.0, torch.device("cuda"), torch.bfloat16) == {}


def test_compiled_blocks_are_not_counted(tmp_path):
    with pytest.raises(ConfigError, match="train.count_flops=True with train.compile=blocks"):
        small(tmp_path, "train.count_flops=True", "train.compile=blocks")


def test_attention_counts_on_a_cpu():
    """Two products of 8 x 8 with 4 channels in each of two heads; backward takes five such ones."""
    query, key, value = (torch.randn(1, 2, 8, 4, requires_grad=True) for _ in range(3))
    with flop_counter() as counter:
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    one = 2 * 2 * 8 * 8 * 4
    assert counter.get_total_flops() == 2 * one
    with flop_counter() as counter:
        out.sum().backward()
    assert counter.get_total_flops() == 5 * one
