# Everything runs in .venv, which is made and kept up to date by the first command that needs it.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
ARGS ?=

.PHONY: help demo demo-web test check bench bench-keys bench-load soak fuzz fuzz-wire format clean

help:
	@echo "make demo       the whole story on this machine      ARGS=\"--json out.json --dump DIR\""
	@echo "make demo-web   both servers stay up, with pages      ARGS=\"--port 8080\""
	@echo "make test       lint, types, import contracts, tests  ARGS=\"-k name\""
	@echo "make check      lint, types and import contracts only"
	@echo "make bench      measure and plot                      ARGS=\"--json out.json\""
	@echo "make bench-keys dealing against bare key generation   ARGS=\"--count 1000\""
	@echo "make bench-load what load a server carries            ARGS=\"--quick --json out.json\""
	@echo "make soak       logins while everything is killed     ARGS=\"--logins 2000 --json out.json\""
	@echo "make fuzz       damaged files for provisioning        ARGS=\"--count 210000\""
	@echo "make fuzz-wire  damaged messages and signatures       ARGS=\"--count 210000\""

demo: $(VENV)/.installed
	$(PY) -m relying_party_demo.story $(ARGS)

demo-web: $(VENV)/.installed
	$(PY) -m relying_party_demo.web $(ARGS)

test: check
	$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

check: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: $(VENV)/.installed-dev
	$(PY) -m benchmarks $(ARGS)

bench-keys: $(VENV)/.installed-dev
	$(PY) -m benchmarks.provisioning $(ARGS)

bench-load: $(VENV)/.installed-dev
	$(PY) -m benchmarks.load $(ARGS)

soak: $(VENV)/.installed-dev
	$(PY) -m tests.soak $(ARGS)

fuzz: $(VENV)/.installed-fuzz
	$(PY) tests/fuzz/fuzz_provisioning.py $(ARGS)

fuzz-wire: $(VENV)/.installed-fuzz
	$(PY) tests/fuzz/fuzz_wire.py $(ARGS)

format: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tandem needs Python 3.11 or later: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-fuzz: $(VENV)/.installed-dev
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev,fuzz]'
	@touch $@
