# `make demo`, `make test` and `make lint` each prepare .venv first; what is prepared already is not prepared again.

.PHONY: help env demo demo-pretrain test test-all lint format lock clean
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
SHELL := /bin/bash

# The tested Python where there is one, else whatever python3 is.
PYTHON ?= $(shell for p in python3.11 python3; do $$p -c "" 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
# Test processes; each runs torch on one thread.
JOBS ?= 2
# More arguments for pytest, as in: make test ARGS="-k pyramid -x"
ARGS ?=

PY := $(VENV)/bin/python
STAMPS := $(VENV)/.stamps
CHECKED := itpn_d2 tools train_net.py $(wildcard pretrain)

help:
	@echo "make demo      pre-train briefly, compare; train, evaluate and draw a small Mask R-CNN on generated scenes"
	@echo "make demo-pretrain   compare starts from nothing and from a longer pre-training"
	@echo "make test      the tests, without those marked slow (make test-all: all of them)"
	@echo "make lint      ruff (lint, format) and mypy; make format applies what ruff can"
	@echo "make env       only prepare $(VENV); PYTHON=... chooses the interpreter"

env: $(STAMPS)/project

DEMO := configs/Quickstart/mask_rcnn_fast_itpn_nano.py
# Pre-trains trunk and pyramid; then the same short fine-tuning with and without that.
WITH_AND_WITHOUT := tools/transfer.py --seeds 1 --arms none pixel --finetune-config $(DEMO) --finetune \
  train.best_metric=segm/AP train.ema.enabled=False train.validation_loss=False train.visualize.period=0

# The comparison runs on one thread each, side by side; what is done already of it is not done again.
demo: env
	$(PY) $(WITH_AND_WITHOUT) train.max_iter=150 train.eval_period=75 --parallel 2 --threads 1 \
	  --pretrain-configs "configs/Quickstart/brief_{method}_fast_itpn_nano.py" --output output/quickstart_brief
	$(PY) train_net.py --config-file $(DEMO)

# As much pre-training as helps this detector.
demo-pretrain: env
	$(PY) $(WITH_AND_WITHOUT) train.max_iter=300 train.eval_period=100 --output output/quickstart_pretraining

test: env
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist worksteal -m "not slow" $(ARGS)

test-all: env
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist worksteal $(ARGS)

lint: env
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy $(CHECKED)

format: env
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# Resolve setup.py and the Detectron2 wheel anew, to the newest versions; test before committing the result.
lock: env
	{ echo "# The tested stack: CPython 3.11 on Linux x86-64, CUDA build of torch (runs on the CPU as it is)."; \
	  echo "# Written by \`make lock\` from setup.py and from what the Detectron2 wheel requires."; \
	  PYTHONPATH=tools $(PY) -c "from detectron2_pure.wheel import REQUIREMENTS; print('\n'.join(REQUIREMENTS))" \
	  | $(PY) -m uv pip compile --quiet --python-version 3.11 --no-annotate --no-header --extra dev setup.py - ; \
	} > requirements.lock.partial
	mv requirements.lock.partial requirements.lock

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(STAMPS)/venv:
	@$(or $(PYTHON),false) -c "import sys; sys.exit(sys.version_info < (3, 10))" || \
	  { echo "No Python of version 3.10 or later found; name one: make env PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	mkdir -p $(STAMPS)
	touch $@

# uv, at the locked version, installs the rest several times faster than pip. The lock holds for the Python it was made
# for; with another one the lower bounds of setup.py decide.
$(STAMPS)/requirements: requirements.lock setup.py $(STAMPS)/venv
	$(PY) -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	if $(PY) -c "import sys; sys.exit(sys.version_info[:2] != (3, 11) or sys.platform != 'linux')"; \
	  then $(PY) -m uv pip install --python $(PY) -r requirements.lock; \
	  else $(PY) -m uv pip install --python $(PY) -r setup.py --extra dev; fi
	touch $@

DETECTRON2_SOURCES := tools/install_detectron2.py $(wildcard tools/detectron2_pure/*.py tools/detectron2_pure/*/*.py)

$(STAMPS)/detectron2: $(DETECTRON2_SOURCES) $(STAMPS)/requirements
	$(PY) tools/install_detectron2.py
	touch $@

$(STAMPS)/project: setup.py pyproject.toml $(STAMPS)/detectron2
	$(PY) -m uv pip install --quiet --python $(PY) --no-build-isolation --no-deps --editable .
	touch $@
