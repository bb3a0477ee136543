# `make demo` and `make test` need Python 3.10 or newer, make and git, and nothing else.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
FILE   ?=
# Tests wait for servers for much of their time: twice as many as a small machine has cores.
WORKERS ?= 4

# Modules are compiled once, not by each of the processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test cluster-test check lint types docs man plots benchmark durability soak kills network-kills clocks hostile clean

help:
	@echo 'make demo [FILE=path]  start a local network, store files on it and get them back'
	@echo 'make test              run the tests'
	@echo 'make cluster-test      a network of many processes, some of which are killed'
	@echo 'make check             lint, types, docs, and the tests on every Python present'
	@echo 'make docs              build the documentation into build/docs'
	@echo 'make man               write the manual pages of the commands into docs/man'
	@echo 'make plots             draw the plots of the page on growth from docs/data'
	@echo 'make benchmark         measure transfers and their parts on this machine'
	@echo 'make durability        farmers that go for good, and what is left (TRIALS=3)'
	@echo 'make soak              random faults for a while (SECONDS=300)'
	@echo 'make kills             kill -9 of the command at random points (KILLS=100)'
	@echo 'make network-kills     kill -9 of network, bridge or farmer (KILLS=100)'
	@echo 'make clocks            clocks set by years, in both directions'
	@echo 'make hostile           mutated answers over every call (CASES=100000)'

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "storj needs Python 3.10 or newer: run make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

# The stamps are newer than setup.cfg once its requirements are installed.
$(VENV)/demo.stamp: setup.cfg | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cli,network]'
	@touch $@

$(VENV)/dev.stamp: setup.cfg | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/demo.stamp

demo: $(VENV)/demo.stamp
	$(BIN)/python -m storj demo $(if $(FILE),'$(subst ','\'',$(FILE))')

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

cluster-test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest tests/cluster

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp
	$(BIN)/mypy

docs: $(VENV)/dev.stamp
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs

man: $(VENV)/dev.stamp
	$(BIN)/python -m docs.man

plots: $(VENV)/dev.stamp
	$(BIN)/python -m docs.plots

check: lint types docs test
	@for version in 3.10 3.11 3.12 3.13 3.14; do \
	    if command -v python$$version > /dev/null && python$$version -c '' 2> /dev/null; then \
	        echo "== python$$version"; \
	        $(MAKE) --no-print-directory test PYTHON=python$$version VENV=.venv-$$version || exit 1; \
	    fi; \
	done

SECONDS ?= 300
KILLS   ?= 100
TRIALS  ?= 3

benchmark: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks

durability: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.durability --trials $(TRIALS)

soak: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.soak --seconds $(SECONDS)

kills: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.kills --kills $(KILLS)

network-kills: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.network_kills --kills $(KILLS)

clocks: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.clocks

CASES ?= 100000

hostile: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.hostile --cases $(CASES)

clean:
	rm -rf build dist .venv .venv-* *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
