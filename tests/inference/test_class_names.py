"""Names of classes without the data: from the config of a run."""

import pytest
from detectron2.data import MetadataCatalog
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


@pytest.mark.parametrize("names", [["cat", "dog"], ["dog", "cat"], None])
def test_a_set_of_that_name_counts_where_its_classes_are_these(names):
    """A process may have trained on other data under the same name before."""
    known = MetadataCatalog.get("class_names_val")
    try:
        known.set(thing_classes=["cat", "dog"], thing_colors=[(1, 2, 3), (4, 5, 6)])
        dataset = {"class_names": names, "val": {"name": "class_names_val"}}
        found = class_metadata(OmegaConf.create({"dataset": dataset}))
    finally:
        MetadataCatalog.remove("class_names_val")
    assert found.thing_classes == (names or ["cat", "dog"])
    assert (found.get("thing_colors") is None) == (names == ["dog", "cat"])
