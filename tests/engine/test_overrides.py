"""A text of the command line is taken as typed; anything else is read."""

import pytest
from omegaconf import OmegaConf

from itpn_d2.engine.overrides import apply_overrides
from itpn_d2.errors import ConfigError

TYPED = {
    "accents": "données",
    "cyrillic": "данные/фото",
    "cjk": "データ",
    "brackets": "data (1)",
    "square": "set[1]",
    "braces": "a{b}c",
    "comma": "a, b,c",
    "number": "2024",
    "real": "1e3",
    "truth": "true",
    "equals": "x=y=z",
    "hash": "a#b",
    "tilde": "~/data",
    "quote": "it's",
    "quotes": 'a "b" c',
    "colon": "C:\\data\\new",
    "blank": " a ",
    "percent": "100%20",
    "at": "a@b:c*?",
    "dollar": "$HOME",
    "reference": "a${no.such}b",
    "broken_reference": "${",
    "two": "${x}${",
    "empty": "",
    "list": "[a,b]",
    "surrogate": "a\udcff",
}


def config():
    return OmegaConf.create(
        {
            "images": "",
            "name": "one",
            "other": "${name}",
            "dangling": "${nothing}",
            "count": 3,
            "rate": 0.1,
            "flag": False,
            "classes": None,
            "sizes": [1, 2],
            "names": ["a", "b"],
            "seed": "${count}",
            "part": {"file": "x", "number": 1},
        }
    )


@pytest.mark.parametrize("kind", TYPED)
@pytest.mark.parametrize("key", ["images", "part.file", "other", "names.1", "dangling"])
def test_text_is_taken_as_typed(kind, key):
    cfg = apply_overrides(config(), [f"{key}={TYPED[kind]}"])
    assert OmegaConf.select(cfg, key) == TYPED[kind]
    again = OmegaConf.create(OmegaConf.to_container(cfg))  # as written to config.yaml and read
    assert OmegaConf.select(again, key) == TYPED[kind]


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("images='data (1)'", "data (1)"),
        ('images="2024"', "2024"),
        ("images='null'", "null"),
        ("images='${name}'", "${name}"),
        ("images=null", None),
        ("images=${name}/x", "one/x"),
        ("images=a\\${name}", "a${name}"),  # OmegaConf's own way to say that it is none
    ],
)
def test_quotes_null_and_references(override, value):
    assert apply_overrides(config(), [override]).images == value


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("count=7", "count", 7),
        ("rate=1e-3", "rate", 1e-3),
        ("flag=true", "flag", True),
        ("seed=5", "seed", 5),
        ("sizes=[4,5]", "sizes", [4, 5]),
        ("sizes.1=9", "sizes", [1, 9]),
        ("names=[c,'d e']", "names", ["c", "d e"]),
        ("classes=[a,b]", "classes", ["a", "b"]),
        ("classes=null", "classes", None),
        ("part=null", "part", None),
        ("part={file:y,number:2}", "part", {"file": "y", "number": 2}),
        ("+new=4", "new", 4),
    ],
)
def test_other_values_are_read(override, key, value):
    assert apply_overrides(config(), [override])[key] == value


@pytest.mark.parametrize(
    "override", ["count=data (1)", "classes=données", "sizes=[a", "~name", "images=???", "--resume"]
)
def test_what_cannot_be_read_is_said(override):
    with pytest.raises(ConfigError, match=r"quot|missing|removed|options must come before") as caught:
        apply_overrides(config(), [override])
    assert override.partition("=")[0].strip("~") in str(caught.value)


@pytest.mark.parametrize("value", ["abc", "1e400", "nan", "10**9"])
def test_a_number_of_a_model_stays_a_number(value):
    cfg = OmegaConf.create({"model": {"rate": 0.5, "size": 3, "flag": True, "free": None}, "rate": 1})
    for key in ("model.rate", "model.size"):
        with pytest.raises(ConfigError, match=f"{key}=.*a number is expected, like .* in the config"):
            apply_overrides(cfg, [f"{key}={value}"])
    apply_overrides(cfg, [f"rate={value}", f"model.free={value}", f"model.flag={value}"])
    assert apply_overrides(cfg, ["model.rate=[1,2]", "model.size=${model.free}"]).model.rate == [1, 2]
    assert apply_overrides(cfg, ["model.flag=null"]).model.flag is None
