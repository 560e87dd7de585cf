"""push_to_hub and from_pretrained through the hub's own client, to a server and back."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from itpn_d2 import Predictor, create_model, model_zoo
from itpn_d2.errors import ZooError
from itpn_d2.model_zoo import Card

from .hub_server import HubServer, redirect_client, serving


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[HubServer]:
    """The client of the hub talks to a server of the test, and has a cache of its own."""
    with serving() as server:
        redirect_client(monkeypatch, server.address, tmp_path / "hub")
        yield server


def test_a_backbone_goes_to_the_hub_and_back(hub):
    torch.manual_seed(0)
    sizes = dict(channels=(8, 16, 32), depths=(1, 1, 2), num_heads=2)
    model = create_model("fast_itpn_nano", pyramid=True, fpn_dim=24, **sizes)
    address = model_zoo.push_to_hub(model, "org/backbone", Card("apache-2.0", "Title"), private=True)
    assert address == f"{hub.address}/org/backbone" and hub.private == {"org/backbone": True}
    files = hub.repositories["org/backbone"]
    assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
    assert b'license: "apache-2.0"' in files["README.md"]
    again = model_zoo.from_pretrained("org/backbone")
    state = again.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_a_detector_goes_to_the_hub_and_back(hub, trained):
    predictor = Predictor(trained / "config.yaml", trained / "model_final.pth", "cpu")
    predictor.push_to_hub("org/detector", Card("mit"), config="Quickstart/mask_rcnn_fast_itpn_nano")
    assert "_target_" not in hub.repositories["org/detector"]["config.json"].decode()
    again = Predictor.from_pretrained("org/detector", "cpu")
    image = np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    assert torch.equal(again(image)["instances"].scores, predictor(image)["instances"].scores)
    assert again.metadata.thing_classes == predictor.metadata.thing_classes


def test_what_others_have_put_there_is_read_as_data(hub):
    hub.repositories["org/other"] = {"config.json": json.dumps({"_target_": "os.system"}).encode()}
    with pytest.raises(ZooError, match="has no model.safetensors|hf://org/other/model.safetensors"):
        model_zoo.from_pretrained("org/other")
    hub.repositories["org/other"]["model.safetensors"] = b"short"
    with pytest.raises(ZooError, match="hf://org/other/config.json"):
        model_zoo.from_pretrained("org/other")


def test_a_server_that_refuses_and_a_repository_that_is_not_there(hub):
    model = create_model("fast_itpn_nano", channels=(8, 16, 32), depths=(1, 1, 1), num_heads=2)
    hub.refusal = 403
    with pytest.raises(ZooError, match="org/name: can't be sent to the hub .*hf auth login"):
        model_zoo.push_to_hub(model, "org/name")
    with pytest.raises(ZooError, match="hf://org/none/config.json: can't be fetched"):
        model_zoo.from_pretrained("org/none")
