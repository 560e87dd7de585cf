"""Lists of numbers written as Python: the known form has the values that Python gives, all else no."""

import pytest

from itpn_d2.errors import ConfigError
from itpn_d2.lazy.arithmetic import list_of_numbers
from itpn_d2.lazy.yaml_files import parse_yaml

ANCHORS = "[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] for x in [32, 64, 128, 256, 512 ]]"


@pytest.mark.parametrize(
    "text",
    [ANCHORS, "[1, 2.5, -3]", "[[x] for x in [2**4, 8 - 1]]", "[]", "[[a + 1, [a / 2]] for a in [1, 2]]"],
)
def test_as_python_has_it(text):
    assert list_of_numbers(text) == eval(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "[open('x')]",
        "[().__class__]",
        "[x for x in range(3)]",
        "[x for x in [1] if x]",
        "[x for x in [1] for y in [2]]",
        "[y for x in [1]]",
        "[[x for y in [1]] for x in [2]]",
        "[lambda: 1]",
        "[1] * 9",
        "[[1] * 9]",
        "[9**9**9]",
        "[10**10]",
        "[(-1)**0.5]",
        "[1/0]",
        "[True]",
        "['a']",
        "[1e999]",
        "[1 if 1 else 2]",
        "32",
        "[" * 100 + "]" * 100 + "x",
        "[1, " * 100,
        "",
        "[1]\0",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="not a list of numbers"):
        list_of_numbers(text)


def test_in_a_yaml():
    tag = "!!python/object/apply:eval"
    assert parse_yaml(f'a: {tag} ["[2**x for x in [1, 2]]"]', "a.yaml") == {"a": [2, 4]}
    for wrong in (
        f'{tag} ["1", "[2]"]',
        f"{tag} [[a]]",
        f"{tag} {{a: b}}",
        f'{tag} ["exit()"]',
        f'{tag} "[1]"',
    ):
        with pytest.raises(ConfigError, match=r"a.yaml:1: .*python/object/apply:eval.*write the value"):
            parse_yaml(f"a: {wrong}", "a.yaml")
