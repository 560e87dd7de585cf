"""--eval-only takes whole weights of the same classes, as the predictor does."""

import pytest
from detectron2.config import LazyConfig

from itpn_d2.checkpoint import CheckpointError, atomic_save, load_state_file
from itpn_d2.engine import Run
from itpn_d2.errors import ConfigError


@pytest.fixture
def run(trained, tmp_path):
    cfg = LazyConfig.load(str(trained / "config.yaml"))
    cfg.train.output_dir, cfg.train.device = str(tmp_path / "run"), "cpu"
    for split in ("train", "val"):
        cfg.dataset[split].num_images, cfg.dataset[split].root = 2, str(tmp_path / "scenes")
    return Run(cfg)


def test_weights_for_evaluation(run, trained, tmp_path):
    train = run.cfg.train
    whole = load_state_file(trained / "model_final.pth")["model"]
    train.init_checkpoint = ""
    with pytest.raises(ConfigError, match="train.init_checkpoint=FILE"):
        run.load_weights("--eval-only")
    train.init_checkpoint = str(tmp_path / "part.pth")
    atomic_save(
        {"model": {k: v for k, v in whole.items() if "box_predictor" not in k}}, train.init_checkpoint
    )
    with pytest.raises(CheckpointError, match=r"part\.pth.*4 tensors of this model.*roi_heads.box_predictor"):
        run.load_weights("--eval-only")
    train.allow_incomplete = True
    run.load_weights("--eval-only")
    train.allow_incomplete = False
    names = list(run.cfg.dataset.class_names)
    for stored, words in ((names[::-1], "their order differs"), (["x", *names[1:]], "their names differ")):
        atomic_save({"model": whole, "classes": {"names": stored}}, train.init_checkpoint)
        with pytest.raises(CheckpointError, match=rf"part\.pth: trained with other classes.*{words}"):
            run.load_weights("--eval-only")
    atomic_save({"model": whole, "classes": {"names": names}}, train.init_checkpoint)
    run.load_weights("--eval-only")
