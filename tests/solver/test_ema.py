import copy

import torch
from torch import nn

from itpn_d2.solver import WeightAverage


def test_average_moves_and_swaps_back():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    average = WeightAverage(model, decay=0.9)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    average.update(model, 500)
    own = copy.deepcopy(model.state_dict())
    with average.swapped_into(model):
        inside = copy.deepcopy(model.state_dict())
    assert torch.equal(inside["0.weight"], average.module.state_dict()["0.weight"])
    assert 0 < (own["0.weight"] - inside["0.weight"]).max() < 1
    assert all(torch.equal(v, own[k]) for k, v in model.state_dict().items())


def test_swaps_back_after_an_error():
    model = nn.Linear(2, 2)
    average = WeightAverage(model, decay=0.5)
    own = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        average.module.weight.zero_()
    try:
        with average.swapped_into(model):
            raise RuntimeError
    except RuntimeError:
        pass
    assert torch.equal(model.weight, own["weight"])


def test_state_round_trip():
    model = nn.Linear(2, 2)
    first, second = WeightAverage(model), WeightAverage(nn.Linear(2, 2))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.module.weight, second.module.weight)
