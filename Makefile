# Every target that needs the environment makes or refreshes it by itself.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Ray, for MD-GAN's workers in processes of their own
CLUSTER := $(if $(filter cluster,$(EXTRAS))$(filter ray,$(WORKERS)),$(VENV)/.cluster)
export PYTHONUNBUFFERED := 1
# the driver reads its settings from the variables that were given; empty ones keep the matrix file's values
# (a path with a space: DATASETS="'folder:/my images'")
# a switch is off if it is empty or 0
switch = $(if $(filter-out 0,$($(1))),$(2))
bench_flags = $(if $(MODELS),--models $(MODELS)) $(if $(DATASETS),--datasets $(DATASETS)) \
              $(if $(SEEDS),--seeds $(SEEDS)) $(if $(DEVICE),--device $(DEVICE)) $(if $(JOBS),--jobs $(JOBS)) \
              $(if $(BUDGET),--budget $(BUDGET)) $(if $(PRESET),--preset $(PRESET)) $(call switch,DRY_RUN,--dry-run) \
              $(if $(PRECISION),--precision $(PRECISION)) $(call switch,GRAPH,--graph) $(if $(WORKERS),--workers $(WORKERS))
sweep_flags = $(if $(DATASET),--dataset $(DATASET)) $(if $(TRIALS),--trials $(TRIALS)) $(if $(JOBS),--jobs $(JOBS)) \
              $(if $(STORAGE),--storage $(STORAGE)) $(if $(STUDY),--study $(STUDY)) $(if $(SEED),--seed $(SEED)) \
              $(if $(PRUNER),--pruner $(PRUNER)) $(if $(OBJECTIVES),--objectives $(OBJECTIVES)) \
              $(if $(SPACE),--space $(SPACE)) $(if $(BUDGET),--budget $(BUDGET)) $(call switch,JOIN,--join) \
              $(if $(PRECISION),--precision $(PRECISION)) \
              $(if $(FINALISTS),--finalists $(FINALISTS)) $(if $(FRESH),--fresh $(FRESH)) \
              $(if $(DEVICE),--device $(DEVICE))
speed_flags = $(if $(MODELS),--models $(MODELS)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
              $(if $(DEVICE),--device $(DEVICE)) $(if $(PRECISION),--precision $(PRECISION)) \
              $(if $(THREADS),--threads $(THREADS)) $(call switch,GRAPH,--graph) $(call switch,QUICK,--quick)
lock_flags = --quiet --universal --python-version 3.11 --no-annotate --no-header

.DEFAULT_GOAL := help
.PHONY: help setup bench sweep speed report ui test test-all lint format lock

help: ## list the targets and their variables
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) $(CLUSTER) ## make .venv and install what requirements.lock pins   EXTRAS=cluster

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; say which to use: make PYTHON=python3.12" >&2; exit 2; }
	@echo "setting up $(VENV) (a few minutes the first time: torch is large)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --compile-bytecode -r requirements.lock
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --editable .
	@touch $@

$(VENV)/.cluster: requirements-cluster.lock $(READY)
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --compile-bytecode -r requirements-cluster.lock
	@touch $@

bench: $(READY) $(CLUSTER) ## train, score, track, report a matrix   MATRIX=digits MODELS= DATASETS= SEEDS= DEVICE=auto JOBS= BUDGET=1 PRESET= PRECISION=auto GRAPH= WORKERS=local DRY_RUN=
	@$(BIN)/python -m benchmarks "$(or $(MATRIX),digits)" $(bench_flags)

sweep: $(READY) ## tune a model, retrain the winners, report   MODEL=sagan DATASET=digits TRIALS=30 JOBS= STORAGE= SEED=0 PRUNER=halving OBJECTIVES= SPACE= BUDGET=1 PRECISION= JOIN=
	@test -n "$(MODEL)" || { echo "error: name a model: make sweep MODEL=sagan" >&2; exit 2; }
	@$(BIN)/python -m sweeps $(MODEL) $(sweep_flags)

speed: $(READY) ## time training beside its arithmetic and beside tutorials   MODELS= ROUNDS=5 DEVICE=auto PRECISION= THREADS= GRAPH= QUICK=
	@$(BIN)/python -m benchmarks.speed $(speed_flags)

report: $(READY) ## write the reports again from the tracking store   MATRIX=digits BUDGET=1
	@$(BIN)/python -m reports "$(or $(MATRIX),digits)" $(if $(BUDGET),--budget $(BUDGET))
	@$(BIN)/python -m sweeps.page

ui: $(READY) ## open the MLflow UI on this machine   PORT=5000
	@$(BIN)/gans ui --port $(or $(PORT),5000)

test: $(READY) ## the fast tests   ARGS="-k mdgan"
	@$(BIN)/python -m pytest $(ARGS)

test-all: $(READY) ## all tests, the slow ones too   ARGS=
	@$(BIN)/python -m pytest -m "" $(ARGS)

lint: $(READY) ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(READY) ## let ruff rewrite the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

lock: $(READY) ## pin the newest versions that pyproject.toml allows
	@$(BIN)/uv pip compile $(lock_flags) --extra dev --upgrade pyproject.toml --output-file requirements.lock
	@$(BIN)/uv pip compile $(lock_flags) --extra cluster --upgrade --constraint requirements.lock pyproject.toml \
	  --output-file requirements-cluster.lock
