"""pyproject.toml has all but what it can't say: that ``configs/`` becomes ``itpn_d2.configs``."""

from setuptools import find_packages, setup

packages = find_packages(include=["itpn_d2", "itpn_d2.*", "pretrain", "pretrain.*"])
setup(packages=[*packages, "itpn_d2.configs"], package_dir={"itpn_d2.configs": "configs"})
