"""Names of classes without the data: from the config of a run."""

import pytest
from omegaconf import OmegaConf

from itpn_d2.inference.configs import class_metadata


@pytest.mark.parametrize(
    "dataset, things, stuff",
    [
        ({"class_names": ["cat", "dog"]}, ["cat", "dog"], ["cat", "dog"]),
        (
            {"class_names": ["cat"], "semantic_class_names": ["things", "sky"], "num_semantic_classes": 2},
            ["cat"],
            ["things", "sky"],
        ),
        ({"class_names": ["cat"], "num_semantic_classes": 3}, ["cat"], ["things", "stuff 1", "stuff 2"]),
    ],
)
def test_names(dataset, things, stuff):
    metadata = class_metadata(OmegaConf.create({"dataset": dataset}))
    assert metadata.thing_classes == things and metadata.stuff_classes == stuff


def test_no_names():
    assert class_metadata(OmegaConf.create({"dataset": {"num_classes": 3}})).as_dict() == {}
