"""Rules of published implementations: by name, never by default."""

import pytest

from itpn_d2.meta_arch.dino.reference import OURS, Reference, reference_of


def test_none_is_ours_and_rules_pass():
    assert reference_of(None) is OURS
    own = Reference(logit_eps=0.1)
    assert reference_of(own) is own


@pytest.mark.parametrize(
    ("name", "training", "evaluation"),
    [("detrex", True, False), ("dino", True, True), ("maskdino", False, False)],
)
def test_when_padding_is_told_apart(name, training, evaluation):
    rules = reference_of(name)
    assert rules.name == name
    assert (rules.sees_padding(True), rules.sees_padding(False)) == (training, evaluation)
    assert OURS.sees_padding(True) and OURS.sees_padding(False)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="choose detrex, dino, maskdino, or None"):
        reference_of("mask2former")
