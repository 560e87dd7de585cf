"""The meta-architecture on trunks of ours and of timm, by call and by registry."""

import pytest
import timm
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from itpn_d2 import create_model
from itpn_d2.backbone.yacs import add_itpn_config
from itpn_d2.checkpoint import load_pretrained
from itpn_d2.meta_arch import BatchAugmentation, ImageClassifier

SMALL = {"channels": (16, 32, 64), "depths": (1, 1, 2), "num_heads": 2, "pos_grid": (2, 2)}


def network(name="fast_itpn_nano", num_classes=4, **options):
    return create_model(name, num_classes=num_classes, **{**SMALL, **options})


def samples(count=4, size=32):
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "image": torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8),
            "label": i % 4,
        }
        for i in range(count)
    ]


@pytest.mark.parametrize("augmentation", [None, BatchAugmentation()])
@pytest.mark.parametrize("name", ["fast_itpn_nano", "itpn_nano", "resnet18"])
def test_learns_a_batch(name, augmentation):
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=4) if name == "resnet18" else network(name)
    model = ImageClassifier(network=net, augmentation=augmentation)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        (loss,) = model(samples()).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None for p in model.parameters())
    assert losses[-1] < losses[0] if augmentation is None else max(losses) < 10


def test_scores_are_probabilities_of_the_normalised_image():
    torch.manual_seed(0)
    net = network()
    torch.nn.init.normal_(net.head.weight)
    model = ImageClassifier(network=net, pixel_mean=[10.0, 20.0, 30.0], pixel_std=[2.0, 4.0, 8.0]).eval()
    batch = samples(3)
    found = torch.stack([item["scores"] for item in model(batch)])
    x = (torch.stack([b["image"] for b in batch]).float() - torch.tensor([10.0, 20, 30]).view(3, 1, 1)) / (
        torch.tensor([2.0, 4, 8]).view(3, 1, 1)
    )
    assert torch.allclose(found, net(x).softmax(1), atol=1e-6)
    assert torch.allclose(found.sum(1), torch.ones(3)) and found.std() > 0


def test_loss_without_augmentation_is_cross_entropy():
    model = ImageClassifier(network=network())
    expected = -torch.stack(
        [item["scores"][b["label"]].log() for item, b in zip(model.eval()(samples()), samples(), strict=True)]
    ).mean()
    assert model.train()(samples())["loss_cls"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("pooling", ["mean_then_batch_norm", "mean_then_norm"])
def test_head_only_changes_nothing_else(pooling):
    net = network(pooling=pooling, drop_path=0.5, num_classes=4)
    model = ImageClassifier(network=net, head_only=True).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(samples())["loss_cls"].backward()
        optimizer.step()
    changed = {k.split(".")[1] for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"head", "fc_norm"}
    assert not any(m.training for m in net.trunk.modules()) and net.head.training
    assert not model.eval().network.fc_norm.training


def test_head_only_of_timm():
    model = ImageClassifier(network=timm.create_model("resnet18", num_classes=4), head_only=True).train()
    assert [n for n, p in model.named_parameters() if p.requires_grad] == [
        "network.fc.weight",
        "network.fc.bias",
    ]
    model(samples())["loss_cls"].backward()
    assert float(model.network.bn1.running_mean.abs().sum()) == 0  # in evaluation mode


def test_from_yacs():
    cfg = add_itpn_config(get_cfg())
    cfg.MODEL.META_ARCHITECTURE = "ImageClassifier"
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.ITPN.NAME = "fast_itpn_nano"
    cfg.MODEL.CLASSIFIER.NUM_CLASSES = 7
    model = build_model(cfg)
    assert isinstance(model, ImageClassifier) and isinstance(model.augmentation, BatchAugmentation)
    assert model.eval()(samples(2, 48))[0]["scores"].shape == (7,)


def test_wrong_batches():
    model = ImageClassifier(network=network(num_classes=3))
    with pytest.raises(ValueError, match="label 3: the model has 3 classes"):
        model(samples())
    with pytest.raises(ValueError, match="different sizes in a batch"):
        model.eval()([*samples(1, 32), *samples(1, 48)])


def test_from_21k_to_1k_at_another_size():
    torch.manual_seed(0)
    first = ImageClassifier(network=network(num_classes=9))
    second = ImageClassifier(network=network(num_classes=4, pos_grid=(3, 3)))
    head = second.network.head.weight.clone()
    report = load_pretrained(second, first.state_dict())
    assert report.mismatched == [
        "network.head.weight: file (9, 64), model (4, 64)",
        "network.head.bias: file (9,), model (4,)",
    ]
    assert report.adapted == ["network.trunk.pos_embed: grid 2x2 -> 3x3, bicubic"]
    assert sorted(report.missing) == ["network.head.bias", "network.head.weight"]
    assert torch.equal(second.network.head.weight, head)
    assert torch.equal(second.network.fc_norm.weight, first.network.fc_norm.weight)
    assert torch.equal(
        second.network.trunk.stage3[1].mlp.w1.weight, first.network.trunk.stage3[1].mlp.w1.weight
    )


def test_a_pretrained_backbone_loads():
    backbone = create_model("fast_itpn_nano", pyramid=True, **SMALL)
    model = ImageClassifier(network=network(pooling="norm_then_mean"))
    report = load_pretrained(model, backbone.state_dict())
    assert sorted(report.missing) == ["network.head.bias", "network.head.weight"]
    assert torch.equal(model.network.trunk.norm.weight, backbone.trunk.norm.weight)
