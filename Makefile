# Everything a newcomer types. Needs python3 (3.11 or later) and the network once; `make demo` starts from nothing.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null)
export OMP_NUM_THREADS ?= 1
# tests at a time: one more than there are cores, for a quarter of the time each waits for processes that it started
export PYTEST_XDIST_AUTO_NUM_WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

ifneq ($(UV),)
  INSTALL = $(UV) pip install --quiet --python $(BIN)/python
else
  INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

.PHONY: demo test lint types crds heavy prove-cleanup prove-resume prove-zombie prove-absence prove-mutants kind-demo clean help

help:                  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 18

demo: .venv/.demo      ## one job's whole life across three mock clouds, in under 4 minutes
	@$(BIN)/orchestrator demo

test: .venv/.dev       ## everything that is quick, on all cores
	@$(BIN)/python -m pytest -q -n auto --dist loadfile

lint: .venv/.dev       ## style, types and floors
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

crds: .venv/.dev       ## the custom resources, from the documents' models
	@$(BIN)/python -m orchestrator.controller.crds deploy/crds

heavy: .venv/.dev      ## what takes minutes, with a real Ray
	@REQUIRE=ray $(BIN)/python -m pytest -q --heavy -m heavy

prove-cleanup: .venv/.dev ## nothing of the demo outlives it: 5 phases x (4 SIGINT + 1 SIGKILL)
	@$(BIN)/python -m pytest -q --heavy tests/proofs/test_cleanup.py -s

prove-resume: .venv/.dev  ## a cloud dies mid-training; the resumed weights equal an uninterrupted run's
	@$(BIN)/python -m pytest -q --heavy tests/proofs/test_resume.py -s

prove-zombie: .venv/.dev  ## a cut-off cloud comes back; nothing of it is written any more
	@$(BIN)/python -m pytest -q --heavy tests/proofs/test_zombie.py -s

prove-absence: .venv/.dev ## the server dies and stays away; the job does not notice
	@$(BIN)/python -m pytest -q --heavy tests/proofs/test_absence.py -s

prove-mutants: .venv/.dev ## each rule of ours broken, one at a time: which sentence of the audit notices
	@$(BIN)/python -m pytest -q tests/mutants

kind-demo: .venv/.demo ## two teams of a kind cluster, one contract; says what is missing (exit code 2)
	@$(BIN)/python deploy/kind/demo.py

.venv/bin/python:
ifneq ($(UV),)
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
else
	@$(PYTHON) -m venv .venv
endif

.venv/.demo: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing (once)" && $(INSTALL) -c constraints.txt -e '.[demo]' && touch $@

.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing what tests need (once)" && $(INSTALL) -c constraints.txt -e '.[dev]' && touch .venv/.demo $@

clean:                 ## remove what was made here
	rm -rf .venv .demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
