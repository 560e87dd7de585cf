"""The configs over networks of timm: each, shrunk, trains and predicts; the recipes are FastMIM's."""

from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from detectron2.solver.lr_scheduler import LRMultiplier
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from itpn_d2.engine import load_config
from itpn_d2.solver import parameter_rules

ROOT = Path(__file__).resolve().parents[2] / "configs"
SWIN = {"embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8], "window_size": 4}
CONVNEXT = {"depths": [1, 1, 2, 1], "dims": [8, 16, 24, 32]}
VIT = {"embed_dim": 32, "depth": 4, "num_heads": 2}
RCNN = [
    "COCO-InstanceSegmentation/mask_rcnn_swin_base_3x",
    "COCO-InstanceSegmentation/mask_rcnn_convnext_base_3x",
    "Custom/mask_rcnn_swin_base",
    "Custom/mask_rcnn_convnext_base",
    "Custom/mask_rcnn_vit_base",
    "Quickstart/mask_rcnn_convnext_atto",
    "Quickstart/mask_rcnn_swin_nano",
]
UPERNET = [
    "ADE20K-SemanticSegmentation/upernet_vit_base_160k",
    "ADE20K-SemanticSegmentation/upernet_swin_base_160k",
    "Custom/upernet_vit_base",
    "Custom/upernet_swin_base",
    "Quickstart/upernet_vit_nano",
]
CLASSIFIERS = [
    "ImageNet-Classification/vit_base_224",
    "ImageNet-Classification/swin_base_224",
    "Custom/classifier_vit_base",
    "Custom/classifier_swin_base",
]


def shrunk(name):
    cfg = load_config(str(ROOT / f"{name}.py"))
    cfg.dataset.num_classes = 3
    backbone = cfg.model.get("backbone")
    network = (
        cfg.model.network if backbone is None else backbone.get("bottom_up", backbone.get("net", backbone))
    )
    options = SWIN if "swin" in name else CONVNEXT if "convnext" in name else VIT
    network.options = {**network.options, **options}
    if "vit" in name and "upernet" in name:
        network.out_indices = [0, 1, 2, 3]
    heads = cfg.model.get("roi_heads")
    if heads is not None:
        heads.box_head.update(conv_dims=[64], fc_dims=[32], conv_norm="GN")
        heads.box_head.input_shape.channels = heads.mask_head.input_shape.channels = 64
        heads.box_predictor.input_shape.channels = 32
        heads.mask_head.update(conv_dims=[32, 32], conv_norm="GN")
        heads.update(batch_size_per_image=16)
        cfg.model.backbone.out_channels = cfg.model.proposal_generator.head.in_channels = 64
        if cfg.model.backbone.get("norm"):
            cfg.model.backbone.norm = "GN"  # SyncBN needs a GPU
    if "sem_seg_head" in cfg.model:
        cfg.model.sem_seg_head.update(channels=64, norm="GN")
        cfg.model.auxiliary_head.update(channels=32, norm="GN")
        if "norm" in cfg.model.backbone:
            cfg.model.backbone.norm = "GN"
        cfg.model.update(window=64, stride=48)
    return cfg, network


def train(cfg, batch, steps=3):
    """As the engine does: bfloat16, the config's groups and schedule; losses and the trained model."""
    torch.manual_seed(0)
    model = instantiate(cfg.model).train()
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    schedule = LRMultiplier(optimizer, instantiate(cfg.lr_multiplier), 20)
    found = []
    with EventStorage():
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16):
                losses = model(batch)
            total = sum(losses.values())
            optimizer.zero_grad()
            total.backward()
            without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
            assert not without, without  # several processes would wait for these
            optimizer.step()
            schedule.step()
            found.append(losses)
    assert all(torch.isfinite(v) for losses in found for v in losses.values())
    return model.eval(), found[-1]


def scene(height, width):
    target = Instances((height, width), gt_boxes=Boxes(torch.tensor([[8.0, 8, 40, 48]])))
    target.gt_classes = torch.tensor([1])
    target.gt_masks = BitMasks(torch.ones(1, height, width, dtype=torch.bool))
    return {"image": torch.rand(3, height, width) * 255, "instances": target}


@pytest.mark.parametrize("name", RCNN)
def test_mask_rcnn(name):
    cfg, _ = shrunk(name)
    model, losses = train(cfg, [scene(64, 96), scene(72, 64)])
    assert {"loss_rpn_cls", "loss_box_reg", "loss_mask"} <= losses.keys()
    with torch.no_grad():
        model([{"image": torch.rand(3, 60, 100) * 255}])[0]["instances"]


@pytest.mark.parametrize("name", UPERNET)
def test_upernet(name):
    cfg, _ = shrunk(name)
    batch = [
        {"image": torch.rand(3, 64, 64) * 255, "sem_seg": torch.randint(0, 3, (64, 64))} for _ in range(2)
    ]
    model, losses = train(cfg, batch)
    assert losses.keys() == {"loss_sem_seg", "loss_auxiliary"}
    with torch.no_grad():
        found = model([{"image": torch.rand(3, 70, 90) * 255, "height": 140, "width": 180}])
    assert found[0]["sem_seg"].shape == (3, 140, 180)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier(name):
    cfg, _ = shrunk(name)
    batch = [{"image": torch.rand(3, 224, 224) * 255, "label": k} for k in (0, 2)]
    model, _ = train(cfg, batch)
    with torch.no_grad():
        scores = model([{"image": torch.rand(3, 224, 224) * 255}])[0]["scores"]
    assert scores.shape == (3,) and abs(scores.sum() - 1) < 1e-4


RATES = {  # lowest and last block's scale: .70 over 12 blocks, .80 over 24, .75 over 12
    "ImageNet-Classification/vit_base_224": (0.70, 12, 2.4e-3, 125100),
    "ImageNet-Classification/swin_base_224": (0.80, 24, 4e-3, 125100),
    "ADE20K-SemanticSegmentation/upernet_vit_base_160k": (0.75, 12, 3e-4, 160000),
    "ADE20K-SemanticSegmentation/upernet_swin_base_160k": (1.0, 24, 6e-5, 160000),
    "COCO-InstanceSegmentation/mask_rcnn_swin_base_3x": (1.0, 24, 6e-5, 131924),
}


@pytest.mark.parametrize("name", RATES)
def test_recipes_of_fastmim(name):
    decay, blocks, lr, iterations = RATES[name]
    cfg = load_config(str(ROOT / f"{name}.py"))
    cfg.dataset.num_classes = 3
    with torch.device("meta"):
        model = instantiate(cfg.model)
    params = cfg.optimizer.params
    assert (cfg.optimizer.lr, params.layer_decay, cfg.train.max_iter) == (lr, decay, iterations)
    rules = parameter_rules(model, params.weight_decay, params.layer_decay)
    scales = {rule.name: rule.lr_scale for _, rule in rules}
    patch = next(v for k, v in scales.items() if k.endswith("patch_embed.proj.weight"))
    last = [v for k, v in scales.items() if ("blocks.11." if "vit" in name else "layers.3.blocks.1.") in k]
    assert patch == pytest.approx(decay ** (blocks + 1)) and set(last) == {decay}
    assert max(scales.values()) == 1.0
    undecayed = {r.name.rpartition(".")[2] for _, r in rules if r.weight_decay == 0}
    assert undecayed >= ({"cls_token", "pos_embed"} if "vit" in name else {"relative_position_bias_table"})


def test_the_head_starts_as_fastmim_has_it():
    cfg, network = shrunk("ImageNet-Classification/vit_base_224")
    torch.manual_seed(0)
    head = instantiate(network).get_classifier()
    assert 1e-5 < float(head.weight.detach().std()) < 3e-5 and not head.bias.detach().any()
