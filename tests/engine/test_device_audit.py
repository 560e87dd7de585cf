"""Every detector's and every method's training step on a device that pretends: no operator may have
tensors of two devices, and the host may wait for the device only where a table below says so, and why.

Torch's fake tensors of "cuda" can't do this without a driver: an index in brackets asks for one, and values
decide what a step of a detector does. The device of ``tests/meta_arch/pretend_device.py`` has values. What
it can't cover, see ``NOT_COVERED``.
"""

from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from detectron2.utils.events import EventStorage

from itpn_d2 import create_model
from itpn_d2.data import prepare_datasets
from itpn_d2.engine import load_config
from itpn_d2.engine.prefetch import prefetched
from itpn_d2.engine.trainer import Trainer
from pretrain.encoders import PyramidEncoder
from pretrain.masking import BlockMasking, RandomMasking
from pretrain.methods import MFM, CLIPDistillation, FastMIM, FeatureDistillation, PixelMIM
from pretrain.targets import CLIPTeacher, Pixels
from tests.configs.test_heads import SMALL
from tests.engine.test_same_run import NETWORK, trunk
from tests.meta_arch.pretend_device import DEVICE, MixedDevices, OnDevice, moved, waits_counted
from tests.meta_arch.test_waits import Dropping

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NOT_COVERED = """
- Branches that ask for "cuda" by name: Triton's kernels (tests/layers/test_deformable.py runs them in
  Triton's interpreter), pinned memory and streams (tests/engine/test_prefetch.py has stand-ins), fused
  optimizers.
- Autocast, which does not know the pretended device: tests of configs run it on the CPU.
- Compiled blocks, several processes, and what is between steps: evaluation, pictures, checkpoints.
- Waits within an operator, such as a workspace of cuDNN.
"""

# Where a step of Detectron2's own heads waits, and why; its files and fvcore's are not ours to change.
CHOSEN = {
    "detectron2/modeling/box_regression.py:_dense_box_regression_loss": "of positive examples alone",
    "itpn_d2/engine/trainer.py:run_step": "the gradient of what was chosen by a mask",
}
ANCHORS = CHOSEN | {
    "detectron2/layers/wrappers.py:nonzero_tuple": "examples are listed",
    "detectron2/modeling/matcher.py:__call__": "checks that overlaps are not negative",
    "detectron2/modeling/box_regression.py:get_deltas": "checks that boxes have a width",
}
IOU_LOSS = {"fvcore/nn/giou_loss.py:giou_loss": "checks corners, and picks boxes with an overlap"}
PROPOSALS = {
    "detectron2/layers/nms.py:batched_nms": "how many boxes remain is told by the device",
    "detectron2/layers/wrappers.py:shapes_to_tensor": "sizes of images become a tensor",
    "detectron2/modeling/poolers.py:convert_boxes_to_pooler_format": "boxes of each image are repeated",
    "detectron2/modeling/proposal_generator/proposal_utils.py:find_top_rpn_proposals": "looks for NaN",
    "detectron2/modeling/proposal_generator/rpn.py:losses": "counts anchors for the log",
    "detectron2/modeling/roi_heads/fast_rcnn.py:_log_classification_stats": "accuracies for the log",
    "detectron2/modeling/roi_heads/roi_heads.py:label_and_sample_proposals": "counts examples for the log",
    "detectron2/structures/boxes.py:__getitem__": "proposals are chosen by a mask",
    "detectron2/structures/boxes.py:clip": "checks that boxes are finite",
}
LISTED = "positive examples are counted or listed"
FOREGROUND = {"detectron2/modeling/roi_heads/roi_heads.py:select_foreground_proposals": LISTED}
MASKS = FOREGROUND | {
    "detectron2/modeling/roi_heads/mask_head.py:mask_rcnn_loss": "accuracies for the log; polygons are drawn "
    "on the CPU",
}
CASCADE = {
    "detectron2/modeling/roi_heads/cascade_rcnn.py:_match_and_label_boxes": "counts examples for the log",
}
POINTS = {
    "detectron2/projects/point_rend/point_features.py:generate_regular_grid_point_coords": "a grid is made",
    "detectron2/projects/point_rend/point_features.py:point_sample_fine_grained_features": "sizes of images",
    "detectron2/projects/point_rend/point_features.py:sample_point_labels": "sizes of images",
    "detectron2/projects/point_rend/point_head.py:roi_mask_point_loss": "accuracies for the log",
}
MATCHER = {"itpn_d2/meta_arch/dino/matcher.py:__call__": "SciPy assigns queries to objects on the CPU"}

REGIONS = ANCHORS | IOU_LOSS | PROPOSALS
ALLOWED: dict[str, dict[str, str]] = {
    "faster_rcnn": REGIONS,
    "cascade_rcnn": REGIONS | CASCADE,
    "mask_rcnn": REGIONS | MASKS,
    "cascade_mask_rcnn": REGIONS | MASKS | CASCADE,
    "panoptic_fpn": REGIONS | MASKS,
    "point_rend": REGIONS | MASKS | POINTS,
    "keypoint_rcnn": REGIONS
    | FOREGROUND
    | {"detectron2/modeling/roi_heads/keypoint_head.py:keypoint_rcnn_loss": "visible ones are listed"},
    "retinanet": ANCHORS | {"detectron2/modeling/meta_arch/retinanet.py:losses": LISTED},
    "fcos": CHOSEN
    | IOU_LOSS
    | {
        "detectron2/modeling/meta_arch/fcos.py:losses": LISTED,
        "detectron2/modeling/meta_arch/fcos.py:compute_ctrness_targets": LISTED,
    },
    "dino": MATCHER,
    "mask_dino": MATCHER,
    "panoptic_mask_dino": MATCHER,
    "semantic_mask_dino": MATCHER,
    "upernet": {},
    "semantic_fpn": {},
    "classifier": {},
}
# Of other versions of torch and Detectron2 only our own waits are known.
TESTED = torch.__version__ >= "2.15" and find_spec("detectron2.utils.panoptic_api") is not None
OURS = ("itpn_d2/", "pretrain/")
DETECTORS = sorted(
    p.stem
    for p in (CONFIGS / "Quickstart").glob("*.py")
    if not p.stem.startswith(("pixel_mim", "mfm", "fastmim"))
)


class SameQueue:
    """A stand-in for CUDA's stream."""

    def within(self):
        return nullcontext()

    def join(self, tensors):
        assert any(isinstance(tensor, OnDevice) for tensor in tensors)


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch):
    """It does not know the pretended device."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ITPN_D2_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def step(model, batch):
    """Places where one step of the trainer waits, the method's own part after it included."""
    moved(model.train())
    parameters = [p for p in model.parameters() if p.requires_grad]
    trainer = Trainer(model, Dropping(parameters, lr=1e-3), clip_grad_norm=0.1, log_period=100)
    trainer.late, trainer.steps, trainer.iter, trainer.max_iter = True, 1, 0, 100  # on a GPU, not the first
    with EventStorage(0) as trainer.storage, waits_counted() as waits:
        trainer.set_data(prefetched([batch], DEVICE, getattr(model, "on_host", ()), SameQueue()))
        trainer.run_step()
        getattr(model, "after_step", lambda epoch: None)(0.5)
    assert any(p.grad is not None for p in parameters)
    return known({waited.split(" ")[0] for waited in waits.places})


def known(places):
    return {place for place in places if TESTED or place.startswith(OURS)}


def detector(name):
    """The model of a config, and a batch as its loader makes it."""
    where = "Custom" if name.startswith("classifier") else "Quickstart"
    ours = "fast_itpn" in name
    overrides = [] if where == "Custom" else [o for o in SMALL if ours or not o.startswith("model.backbone")]
    cfg = load_config(str(CONFIGS / where / f"{name}.py"), overrides)
    torch.manual_seed(0)
    if where == "Custom":
        cfg.model.network.update(num_classes=5, depths=(1, 1, 1), channels=(8, 16, 32), num_heads=2)
        images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
        return instantiate(cfg.model), [{"image": x, "label": k} for k, x in enumerate(images)]
    prepare_datasets(cfg.dataset)
    batch = next(iter(instantiate(cfg.dataloader.train)))
    return instantiate(cfg.model), [{k: v for k, v in s.items() if k != "instead_of"} for s in batch]


def kind_of(name):
    """``mask_rcnn`` of ``mask_rcnn_fast_itpn_nano``."""
    return max((kind for kind in ALLOWED if name.startswith(kind + "_")), key=len)


@pytest.mark.parametrize("name", [*DETECTORS, "classifier_fast_itpn_nano"])
def test_detectors(name):
    model, batch = detector(name)
    found = step(model, batch)
    allowed = known(ALLOWED[kind_of(name)])
    assert found == allowed, found ^ allowed


@pytest.mark.parametrize("name", ["fcos", "retinanet", "mask_rcnn", "dino", "panoptic_mask_dino"])
def test_an_image_without_an_object(name):
    model, batch = detector(f"{name}_fast_itpn_nano")
    batch[0]["instances"] = batch[0]["instances"][[]]
    assert step(model, batch) <= known(ALLOWED[name])


def teacher():
    small = dict(embed_dim=16, depth=1, num_heads=2)
    return CLIPTeacher("vit_base_patch16_clip_224", random=True, image_size=64, options=small)


def v1_trunk():
    return create_model("itpn_nano", pyramid=True, fpn_dim=16, drop_path=0.3, pos_grid=(4, 4), **NETWORK)


METHODS = {
    "pixel_mim": lambda: PixelMIM(trunk(), decoder_dim=16, decoder_heads=2, visible_weight=0.1),
    "pixel_mim_v1": lambda: PixelMIM(v1_trunk(), RandomMasking(0.5), decoder_dim=16, decoder_heads=2),
    "mfm": lambda: MFM(trunk(), decoder_dim=16, decoder_heads=2),
    "mfm_masked": lambda: MFM(
        trunk(), BlockMasking(8, 2, exact=True), decoder_dim=16, decoder_heads=2, teacher_input="masked"
    ),
    "distillation": lambda: FeatureDistillation(trunk(), teacher(), masking=BlockMasking(6, 2)),
    "clip_distillation": lambda: CLIPDistillation(v1_trunk(), teacher(), masking=BlockMasking(6, 2)),
    "fastmim_hog": lambda: FastMIM(PyramidEncoder(trunk()), decoder_dim=16, decoder_heads=2),
    "fastmim_pixels": lambda: FastMIM(PyramidEncoder(trunk()), Pixels(), decoder_dim=16, decoder_heads=2),
}


@pytest.mark.parametrize("name", METHODS)
def test_pre_training(name):
    """Nothing waits at all."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    batch = {"image": images, "index": torch.arange(2), "position": [0, 1]}
    assert step(METHODS[name](), batch) == set()


def test_mixed_devices_are_refused():
    x, host = OnDevice(torch.ones(3)), torch.ones(3)
    refused = [
        lambda: x + host,
        lambda: torch.stack([x[0], torch.tensor(1.0)]),
        lambda: host[x.long()],
        lambda: torch.where(x > 0, x, host),
        lambda: x.index_put_((torch.tensor([0]),), host[:1]),
        lambda: x @ host,
    ]
    with waits_counted():
        for mixed in refused:
            with pytest.raises(MixedDevices):
                mixed()
        x + torch.tensor(1.0), x * host[0], torch.where(x > 0, x, torch.tensor(0.0)), x[torch.tensor([0])]
