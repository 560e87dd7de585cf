# `make demo`, `make test` and `make lint` each prepare .venv first; what is prepared already is not prepared again.

.PHONY: help env demo demo-pretrain test test-fast test-all test-floor test-upstream test-timm gpu-check docs lint format lock clean
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
UV := $(PY) -m uv
UPSTREAM ?= git+https://github.com/facebookresearch/detectron2.git
STAMPS := $(VENV)/.stamps
CHECKED := itpn_d2 tools train_net.py $(wildcard pretrain)
PYTEST := -m pytest -n $(JOBS) --dist worksteal

help:
	@echo "make demo      train a small Mask R-CNN on generated scenes, from scratch and from the package's weights"
	@echo "make demo-pretrain   the same with a pre-training of your own before it"
	@echo "make test      the tests, without those marked slow (make test-all: all of them)"
	@echo "make test-fast the unit tests of the networks' parts, in less than a minute"
	@echo "make test-floor, make test-upstream   with the lowest versions allowed; with Detectron2's newest"
	@echo "make test-timm timm's own tests of models over ours; TIMM_SOURCE=FOLDER where PyPI can't be reached"
	@echo "make gpu-check what only a GPU can tell: values, speed, memory, into docs/; less than eight minutes"
	@echo "make docs      the site, into site/; fails at a broken link"
	@echo "make lint      ruff (lint, format), mypy and codespell; make format applies what ruff can"
	@echo "make env       only prepare $(VENV); PYTHON=... chooses the interpreter"

env: $(STAMPS)/project

DEMO := configs/Quickstart/mask_rcnn_fast_itpn_nano.py
# The same short fine-tuning from scratch and from pre-trained trunk and pyramid.
WITH_AND_WITHOUT := tools/transfer.py --seeds 1 --arms none pixel --finetune-config $(DEMO) --finetune \
  train.best_metric=segm/AP train.ema.enabled=False train.validation_loss=False

# From the weights in the package. One thread each, side by side; what is done already is not done again.
demo: env
	$(PY) $(WITH_AND_WITHOUT) train.max_iter=300 train.eval_period=75 train.visualize.period=300 \
	  --checkpoint itpn://fast_itpn_nano --parallel 2 --threads 1 --output output/demo

# From a pre-training of its own, on the images of the same scenes.
demo-pretrain: env
	$(PY) $(WITH_AND_WITHOUT) train.max_iter=300 train.eval_period=100 train.visualize.period=0 \
	  --output output/quickstart_pretraining

test: env
	OMP_NUM_THREADS=1 $(PY) $(PYTEST) -m "not slow" $(ARGS)

# The ground floor, the layers and the solver: what nothing else is needed for.
test-fast: env
	OMP_NUM_THREADS=1 $(PY) $(PYTEST) -m "not slow" tests/test_errors.py tests/test_files.py tests/layers tests/solver $(ARGS)

test-all: env
	OMP_NUM_THREADS=1 $(PY) $(PYTEST) $(ARGS)

# In an environment of its own: the lowest Python and the lowest versions that pyproject.toml allows.
test-floor: env
	$(UV) venv --quiet --allow-existing --seed --python 3.10 $(VENV)-floor
	$(UV) pip install --python $(VENV)-floor --resolution lowest-direct -r pyproject.toml --extra dev
	$(VENV)-floor/bin/python tools/install_detectron2.py
	$(UV) pip install --quiet --python $(VENV)-floor --no-build-isolation --no-deps --editable .
	OMP_NUM_THREADS=1 $(VENV)-floor/bin/python $(PYTEST) -m "not slow" $(ARGS)

# In an environment of its own: the newest Detectron2, with its operators compiled (needs a C++ compiler and git).
test-upstream: env
	$(UV) venv --quiet --allow-existing --seed --python $(PY) $(VENV)-upstream
	$(UV) pip install --python $(VENV)-upstream -r requirements.lock
	$(UV) pip install --python $(VENV)-upstream 'setuptools>=77,<81'  # its model zoo imports pkg_resources
	$(UV) pip install --python $(VENV)-upstream --no-build-isolation $(UPSTREAM)
	$(UV) pip install --quiet --python $(VENV)-upstream --no-build-isolation --no-deps --editable .
	OMP_NUM_THREADS=1 $(VENV)-upstream/bin/python $(PYTEST) -m "not slow" $(ARGS)

# timm's sources of the installed version are downloaded, unless TIMM_SOURCE names a folder that has them.
test-timm: env
	OMP_NUM_THREADS=1 $(PY) tools/timm_tests.py --source "$(TIMM_SOURCE)" $(ARGS)

# Exit code 1: a value differs; 3: a part could not be measured. tests/tools/test_gpu_check.py does the same on the CPU.
gpu-check: env
	$(PY) tools/gpu_check.py --docs docs

docs: $(STAMPS)/docs
	$(PY) -m mkdocs build --strict

lint: env
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy $(CHECKED)
	$(VENV)/bin/codespell

format: env
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# Resolve pyproject.toml and the Detectron2 wheel anew, to the newest versions; test before committing the result.
lock: env
	{ echo "# The tested stack: CPython 3.11 on Linux x86-64, CUDA build of torch (runs on the CPU as it is)."; \
	  echo "# Written by \`make lock\` from pyproject.toml and from what the Detectron2 wheel requires."; \
	  $(PY) -c "from itpn_d2.detectron2_wheel.wheel import REQUIREMENTS; print('\n'.join(REQUIREMENTS))" \
	  | $(UV) pip compile --quiet --python-version 3.11 --no-annotate --no-header --extra dev --extra hf --extra export pyproject.toml - ; \
	} > requirements.lock.partial
	mv requirements.lock.partial requirements.lock

clean:
	rm -rf $(VENV) $(VENV)-floor $(VENV)-upstream build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(STAMPS)/venv:
	@$(or $(PYTHON),false) -c "import sys; sys.exit(sys.version_info < (3, 10))" || \
	  { echo "No Python of version 3.10 or later found; name one: make env PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	mkdir -p $(STAMPS)
	touch $@

# uv, at the locked version, installs the rest several times faster than pip. The lock holds for the Python it was made
# for; with another one the lower bounds of pyproject.toml decide.
$(STAMPS)/requirements: requirements.lock pyproject.toml $(STAMPS)/venv
	$(PY) -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	if $(PY) -c "import sys; sys.exit(sys.version_info[:2] != (3, 11) or sys.platform != 'linux')"; \
	  then $(UV) pip install --python $(PY) -r requirements.lock; \
	  else $(UV) pip install --python $(PY) -r pyproject.toml --extra dev --extra hf --extra export; fi
	touch $@

DETECTRON2_SOURCES := tools/install_detectron2.py $(wildcard itpn_d2/detectron2_wheel/*.py itpn_d2/detectron2_wheel/*/*.py)

$(STAMPS)/detectron2: $(DETECTRON2_SOURCES) $(STAMPS)/requirements
	$(PY) tools/install_detectron2.py
	touch $@

$(STAMPS)/project: setup.py pyproject.toml $(STAMPS)/detectron2
	$(UV) pip install --quiet --python $(PY) --no-build-isolation --no-deps --editable .
	touch $@

$(STAMPS)/docs: $(STAMPS)/project
	$(UV) pip install --python $(PY) -r pyproject.toml --extra docs
	touch $@
