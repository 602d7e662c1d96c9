# Every target that needs the environment makes or refreshes it by itself.
# Values reach recipes through the environment ("$$VENV"); a $(VENV) in a recipe would be run by the shell.
PYTHON ?= python3
VENV   ?= .venv
override BIN   := $(VENV)/bin
override READY := $(VENV)/.ready
# Ray, for cells on a cluster and MD-GAN's workers in processes of their own
override CLUSTER := $(if $(filter cluster,$(EXTRAS))$(filter ray,$(WORKERS) $(ENGINE)),$(VENV)/.cluster)
export PYTHONUNBUFFERED := 1
export PYTHON VENV BIN MAKECMDGOALS
# make puts the variables that it was given into the environment; the options of each command say which it takes
override given = "$$BIN/python" -m gans.commands.make $@
# a process per core, each with whole files: what a file's tests share is made once
override abreast = -n logical --maxprocesses 4 --dist loadfile
override lock_flags = --quiet --universal --python-version 3.11 --no-annotate --no-header

.DEFAULT_GOAL := help
.PHONY: help setup bench sweep score speed gpu chaos report publish ui test test-all lint format lock

help: ## list the targets with their variables and defaults
	@"$$BIN/python" -m gans.commands.make help 2>/dev/null || \
	  { awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' Makefile; \
	    echo "after make setup, make help lists the variables of each too"; }

setup: $(READY) $(CLUSTER) ## make .venv and install what requirements.lock pins   EXTRAS=cluster

$(READY): requirements.lock pyproject.toml
	@"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $$PYTHON is older than Python 3.11; say which to use: make PYTHON=python3.12" >&2; exit 2; }
	@echo "setting up $$VENV (a few minutes the first time: torch is large)"
	@test -x "$$BIN/python" || "$$PYTHON" -m venv "$$VENV"
	@"$$BIN/python" -m pip install --quiet --disable-pip-version-check uv
	@"$$BIN/uv" pip install --python "$$BIN/python" --quiet --compile-bytecode -r requirements.lock
	@"$$BIN/uv" pip install --python "$$BIN/python" --quiet --no-deps --editable .
	@touch "$$VENV/.ready"

$(VENV)/.cluster: requirements-cluster.lock $(READY)
	@"$$BIN/uv" pip install --python "$$BIN/python" --quiet --compile-bytecode -r requirements-cluster.lock
	@touch "$$VENV/.cluster"

bench: $(READY) $(CLUSTER) ## train, score, track, report a matrix
	@$(given)

sweep: $(READY) $(CLUSTER) ## tune a model, retrain the winners, report
	@$(given)

score: $(READY) $(CLUSTER) ## score finished cells by other extractors or on more images, without training
	@$(given)

speed: $(READY) ## time training beside its arithmetic and beside tutorials
	@$(given)

gpu: $(READY) ## run the GPU tests and measure the figures to reach on a GPU, beside their goals
	@$(given)

chaos: $(READY) ## kill and damage tiny runs at random, and count what that costs (hours)
	@$(given)

report: $(READY) ## write the reports again from the tracking store
	@$(given)
	@"$$BIN/python" -m gans sweep-report $${OUTPUTS:+--output "$$OUTPUTS/reports/sweeps"}

publish: $(READY) ## for maintainers: put a page or preset among those that ship   FROM=outputs/reports/digits
	@"$$BIN/python" -m gans publish -- "$$FROM"

ui: $(READY) ## open the MLflow UI on this machine
	@$(given)

test: $(READY) ## the fast tests   ARGS="-k mdgan"
	@PYTEST_ADDOPTS="$(abreast) $$ARGS" "$$BIN/python" -m pytest

test-all: $(READY) ## all tests, the slow ones too   ARGS=
	@PYTEST_ADDOPTS="$(abreast) -m '' $$ARGS" "$$BIN/python" -m pytest

lint: $(READY) ## ruff, mypy and the contracts on imports
	@"$$BIN/ruff" check . && "$$BIN/ruff" format --check . && "$$BIN/mypy" && "$$BIN/lint-imports" --no-logo

format: $(READY) ## let ruff rewrite the code
	@"$$BIN/ruff" check --fix . && "$$BIN/ruff" format .

lock: $(READY) ## pin the newest versions that pyproject.toml allows
	@"$$BIN/uv" pip compile $(lock_flags) --extra dev --upgrade pyproject.toml --output-file requirements.lock
	@"$$BIN/uv" pip compile $(lock_flags) --extra cluster --upgrade --constraint requirements.lock pyproject.toml \
	  --output-file requirements-cluster.lock
