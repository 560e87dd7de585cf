# The project with the extras app and export, from a clone:  docker build -t itpn-d2 .
# For GPUs:  docker build -t itpn-d2:cuda --build-arg TORCH_BACKEND=cu130 .
FROM ubuntu:24.04

# As uv names them: cpu, or cu126, cu130, ... with the CUDA libraries; only the driver comes from the host.
ARG TORCH_BACKEND=cpu

ENV DEBIAN_FRONTEND=noninteractive PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
# The distribution's and PyPI's newest versions are meant: the lower bounds of pyproject.toml decide.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/*

RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
# hadolint ignore=DL3013
RUN pip install --upgrade pip setuptools uv \
    && uv pip install --no-cache --torch-backend "${TORCH_BACKEND}" "torch>=2.10" "torchvision>=0.25"

WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE NOTICE ./
COPY itpn_d2 itpn_d2
COPY pretrain pretrain
COPY configs configs
# hadolint ignore=DL3013
RUN pip install '.[app,export]' && itpn-install-detectron2 && rm -rf /src/build

RUN useradd --create-home --uid 1001 user && mkdir /data && chown user /data
# by number, so that a host can tell that it is not root
USER 1001
WORKDIR /data
CMD ["itpn-train", "--help"]
