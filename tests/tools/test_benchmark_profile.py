"""Where seconds go: kinds of operators, shares that sum to 1, and their table."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from benchmarks import backbone as benchmark_backbone
from benchmarks.backbone import DENSE, EXPLICIT, Table, measure_profile
from benchmarks.docs import body, matrix
from benchmarks.models import BackboneSetting, Size
from benchmarks.profile import KINDS, OTHER, kind_of, profile_table, profiled

TINY = BackboneSetting("fast_itpn_nano", sizes=(Size(64, 64),), rounds=1, device="cpu", dtype="fp32")


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::addmm", "products"),
        ("aten::mm", "products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "fused attention"),
        ("aten::_softmax", "softmax"),
        ("aten::native_layer_norm_backward", "norms"),
        ("aten::gelu", "activations"),
        ("aten::copy_", "copies"),
        ("aten::cat", "copies"),
        ("aten::add", OTHER),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128", "products"),
    ],
)
def test_kinds(operator, kind):
    assert kind_of(operator) == kind


def test_shares_of_a_step():
    x = torch.randn(400, 400)
    found = profiled(lambda number: F.gelu(x @ x), 2, torch.device("cpu"))
    assert found.keys() == {*KINDS, OTHER} and sum(found.values()) == pytest.approx(1)
    assert found["products"] > 0 and found["activations"] > 0
    assert found["norms"] == found["softmax"] == found["fused attention"] == 0


def test_a_backbone():
    fused, explicit = (
        measure_profile(side, Size(64, 64), "forward", TINY)["shares"] for side in (DENSE, EXPLICIT)
    )
    assert fused["fused attention"] > 0 == explicit["fused attention"]
    assert explicit["softmax"] > 0 == fused["softmax"]


def test_the_table(monkeypatch):
    def fake(function, *arguments):
        side = arguments[0]
        if side.model == "both":
            return {"reason": "no memory"}
        return {"value": 0.75, "low": 0.75, "high": 0.75, "shares": dict.fromkeys([*KINDS, OTHER], 1 / 7)}

    monkeypatch.setattr(benchmark_backbone, "attempt", fake)
    table = Table(replace(TINY, sizes=(Size(64, 64), Size(64, 96))))
    table.add_profile("fp32", ["forward"])
    lines = profile_table(table.results["fp32"])
    assert lines[0].split(" | ")[1:] == [*KINDS, f"{OTHER} |"] and len(lines) == 2 + 2 * 5 + 1
    assert "| explicit, forward, 64x96 | 14 | 14 | 14 | 14 | 14 | 14 | 14 |" in lines
    assert all(line.count("|") == 9 for line in lines[:-1])
    assert matrix(table.results["fp32"], "forward") == [] and lines[0] in body(table.content())
