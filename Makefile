# Targets that need the environment create or update it.
# Recipes read values from the environment ("$$VENV"), since the shell would execute the text of $(VENV).
PYTHON ?= python3
VENV   ?= .venv
override BIN   := $(VENV)/bin
override READY := $(VENV)/.ready
# Ray, for cells on a cluster and for MD-GAN's workers in separate processes
override CLUSTER := $(if $(filter cluster,$(EXTRAS))$(filter ray,$(WORKERS) $(ENGINE)),$(VENV)/.cluster)
export PYTHONUNBUFFERED := 1
export PYTHON VENV BIN MAKECMDGOALS
# make exports the given variables to the environment; the options of each command declare which it takes
override given = "$$BIN/python" -m gans.commands.make $@
# a process per core; each runs whole files, so that the fixtures of a file are built once
override abreast = -n logical --maxprocesses 4 --dist loadfile
override lock_flags = --quiet --universal --python-version 3.11 --no-annotate --no-header

.DEFAULT_GOAL := help
.PHONY: help setup bench sweep score speed gpu chaos report publish ui test test-all lint format lock

help: ## list the targets with their variables and defaults
	@"$$BIN/python" -m gans.commands.make help 2>/dev/null || \
	  { awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' Makefile; \
	    echo "after make setup, make help lists the variables of each too"; }

setup: $(READY) $(CLUSTER) ## create .venv with the versions that requirements.lock pins   EXTRAS=cluster

$(READY): requirements.lock pyproject.toml
	@"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $$PYTHON is older than Python 3.11; name another: make PYTHON=python3.12" >&2; exit 2; }
	@echo "setting up $$VENV (a few minutes the first time: torch is large)"
	@test -x "$$BIN/python" || "$$PYTHON" -m venv "$$VENV"
	@"$$BIN/python" -m pip install --quiet --disable-pip-version-check uv
	@"$$BIN/uv" pip install --python "$$BIN/python" --quiet --compile-bytecode -r requirements.lock
	@"$$BIN/uv" pip install --python "$$BIN/python" --quiet --no-deps --editable .
	@touch "$$VENV/.ready"

$(VENV)/.cluster: requirements-cluster.lock $(READY)
	@"$$BIN/uv" pip install --python "$$BIN/python" --quiet --compile-bytecode -r requirements-cluster.lock
	@touch "$$VENV/.cluster"

bench: $(READY) $(CLUSTER) ## train, score, track and report a matrix
	@$(given)

sweep: $(READY) $(CLUSTER) ## tune a model, retrain the winners, write a report
	@$(given)

score: $(READY) $(CLUSTER) ## add scores by other extractors or on more images to finished cells, without training
	@$(given)

speed: $(READY) ## compare the speed of training with its arithmetic and with a tutorial's trainer
	@$(given)

gpu: $(READY) ## run the GPU tests, measure speed on a GPU and compare it with the goals
	@$(given)

chaos: $(READY) ## kill and damage tiny runs at random, and count the losses (hours)
	@$(given)

report: $(READY) ## write the reports again from tracked runs
	@$(given)
	@"$$BIN/python" -m gans sweep-report $${OUTPUTS:+--output "$$OUTPUTS/reports/sweeps"}

publish: $(READY) ## for maintainers: copy a page or preset to those that ship   FROM=outputs/reports/digits
	@"$$BIN/python" -m gans publish -- "$$FROM"

ui: $(READY) ## open the MLflow UI on this machine
	@$(given)

test: $(READY) ## the fast tests   ARGS="-k mdgan"
	@PYTEST_ADDOPTS="$(abreast) $$ARGS" "$$BIN/python" -m pytest

test-all: $(READY) ## all tests, also the slow ones   ARGS=
	@PYTEST_ADDOPTS="$(abreast) -m '' $$ARGS" "$$BIN/python" -m pytest

lint: $(READY) ## ruff, mypy and the contracts on imports
	@"$$BIN/ruff" check . && "$$BIN/ruff" format --check . && "$$BIN/mypy" && "$$BIN/lint-imports" --no-logo

format: $(READY) ## format the code with ruff
	@"$$BIN/ruff" check --fix . && "$$BIN/ruff" format .

lock: $(READY) ## pin the newest versions that pyproject.toml allows
	@"$$BIN/uv" pip compile $(lock_flags) --extra dev --upgrade pyproject.toml --output-file requirements.lock
	@"$$BIN/uv" pip compile $(lock_flags) --extra cluster --upgrade --constraint requirements.lock pyproject.toml \
	  --output-file requirements-cluster.lock
