"""The backbone through Detectron2's registry and a yacs config."""

import subprocess
import sys

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone

from itpn_d2 import add_itpn_config


def nano(levels=()):
    cfg = add_itpn_config(get_cfg())
    cfg.MODEL.BACKBONE.NAME = "build_itpn_backbone"
    cfg.MODEL.ITPN.NAME = "fast_itpn_nano"
    cfg.MODEL.ITPN.OUT_FEATURES = list(levels)
    cfg.MODEL.ITPN.FPN_DIM = 32
    return cfg


@pytest.mark.parametrize("levels", [["p2", "p3", "p4", "p5", "p6"], ["p3", "p5"]])
def test_build(levels):
    model = build_backbone(nano(levels))
    outputs = model(torch.randn(1, 3, 64, 64))
    assert list(outputs) == list(model.output_shape()) == levels
    assert model.size_divisibility == model.padding_constraints["size_divisibility"] == 32


@pytest.mark.parametrize(("architecture", "levels"), [("GeneralizedRCNN", "23456"), ("RetinaNet", "34567")])
def test_levels_follow_the_detector(architecture, levels):
    cfg = nano()
    cfg.MODEL.META_ARCHITECTURE = architecture
    assert list(build_backbone(cfg).output_shape()) == [f"p{k}" for k in levels]


@pytest.mark.parametrize("architecture", ["GeneralizedRCNN", "RetinaNet"])
@pytest.mark.parametrize("name", ["build_itpn_backbone", "build_timm_backbone"])
def test_a_config_without_our_keys_has_their_defaults(tmp_path, name, architecture):
    """As in a script of Detectron2 that knows nothing of them; the config stays as it is."""
    (tmp_path / "plain.yaml").write_text(
        f"MODEL: {{META_ARCHITECTURE: {architecture}, BACKBONE: {{NAME: {name}}}}}"
    )
    built = []
    for cfg in (get_cfg(), add_itpn_config(get_cfg())):
        cfg.merge_from_file(str(tmp_path / "plain.yaml"))
        cfg.freeze()
        before = cfg.dump()
        with torch.device("meta"):
            model = build_backbone(cfg)
        assert cfg.dump() == before
        built.append({key: value.shape for key, value in model.state_dict().items()})
        built.append(model.output_shape())
    assert built[:2] == built[2:] and len(built[0]) > 100


def test_a_yaml_with_our_keys_needs_them_in_the_config(tmp_path):
    """Detectron2 says so in its words; nothing of it is changed by the import."""
    (tmp_path / "ours.yaml").write_text("MODEL: {ITPN: {NAME: fast_itpn_nano}}")
    with pytest.raises(KeyError, match="Non-existent config key: MODEL.ITPN"):
        get_cfg().merge_from_file(str(tmp_path / "ours.yaml"))
    cfg = add_itpn_config(get_cfg())
    cfg.merge_from_file(str(tmp_path / "ours.yaml"))
    assert cfg.MODEL.ITPN.NAME == "fast_itpn_nano"


ORDERS = [
    "import itpn_d2, detectron2.modeling",
    "import detectron2.modeling, itpn_d2",
    "import detectron2; import itpn_d2; import detectron2.engine",
]


@pytest.mark.parametrize("order", ORDERS)
def test_importing_the_package_registers(order):
    """Whichever comes first; and the module with the registry keeps its own loader."""
    code = (
        f"{order}; import detectron2.modeling.backbone as b; import sys; "
        "print([n for n, _ in b.BACKBONE_REGISTRY if 'itpn' in n or 'timm' in n], "
        "type(b.__loader__).__name__, "
        "[f for f in sys.meta_path if type(f).__module__ == 'itpn_d2.registration'])"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    names = ["itpn", "timm", "timm_fpn", "timm_simple_pyramid"]
    expected = f"{[f'build_{n}_backbone' for n in names]} SourceFileLoader []"
    assert done.stdout.strip() == expected, done.stderr


def names_and_levels(cfg):
    """What a process that knows nothing but its arguments finds and builds."""
    from detectron2.modeling.backbone import BACKBONE_REGISTRY

    found = sorted(name for name, _ in BACKBONE_REGISTRY if name.startswith(("build_itpn", "build_timm")))
    return found, list(build_backbone(cfg).output_shape())


def test_a_process_that_is_spawned():
    """As the workers of a launcher or a data loader are: what is pickled brings the import along."""
    context = torch.multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        found, levels = pool.apply(names_and_levels, (nano(["p3", "p4"]),))
    assert found == [f"build_{n}_backbone" for n in ("itpn", "timm", "timm_fpn", "timm_simple_pyramid")]
    assert levels == ["p3", "p4"]
