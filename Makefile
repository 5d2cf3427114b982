# Everything runs in .venv, which is made and kept up to date by the first command that needs it.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
ARGS ?=

.PHONY: help demo demo-web test check bench bench-keys bench-load browser bench-browser soak accuracy vectors fuzz fuzz-wire audit sbom format clean

help:
	@echo "make demo       the whole story on this machine      ARGS=\"--json out.json --dump DIR\""
	@echo "make demo-web   both servers stay up, with pages      ARGS=\"--faces --port 8080\""
	@echo "make test       lint, types, import contracts, tests  ARGS=\"-k name\""
	@echo "make check      lint, types and import contracts only"
	@echo "make bench      measure and plot                      ARGS=\"--json out.json\""
	@echo "make bench-keys dealing against bare key generation   ARGS=\"--count 1000\""
	@echo "make bench-load what load a server carries            ARGS=\"--quick --json out.json\""
	@echo "make browser    extension and agent in a Chromium       ARGS=\"--json out.json --screens DIR\""
	@echo "make bench-browser what they add to a login          ARGS=\"--json out.json\""
	@echo "make accuracy   error rates, docs/accuracy.md         ARGS=\"--data FILE.npz --json out.json\""
	@echo "make vectors    docs/vectors made again              ARGS=\"login-rs256\""
	@echo "make soak       logins while everything is killed     ARGS=\"--logins 2000 --json out.json\""
	@echo "make audit      known vulnerabilities of what is installed"
	@echo "make sbom       sbom.json, CycloneDX, of what the server runs on"
	@echo "make fuzz       damaged files for provisioning        ARGS=\"--count 210000\""
	@echo "make fuzz-wire  damaged messages and signatures       ARGS=\"--count 210000\""

# Faces need the packages of tandem-auth[face]; without them the demonstrations are spared 130 MB.
demo: $(if $(findstring --faces,$(ARGS)),$(VENV)/.installed-face,$(VENV)/.installed)
	$(PY) -m relying_party_demo.story $(ARGS)

demo-web: $(if $(findstring --faces,$(ARGS)),$(VENV)/.installed-face,$(VENV)/.installed)
	$(PY) -m relying_party_demo.web $(ARGS)

test: check
	$(PY) -m pytest -n 3 --dist loadfile $(ARGS)

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

browser: $(VENV)/.installed-browser
	$(PY) -m tests.browser $(ARGS)

bench-browser: $(VENV)/.installed-browser
	$(PY) -m benchmarks.browser $(ARGS)

accuracy: $(VENV)/.installed-dev
	$(PY) -m benchmarks.accuracy $(ARGS)

vectors: $(VENV)/.installed-dev
	$(PY) -m interop --write docs/vectors $(ARGS)

soak: $(VENV)/.installed-dev
	$(PY) -m tests.soak $(ARGS)

fuzz: $(VENV)/.installed-fuzz
	$(PY) tests/fuzz/fuzz_provisioning.py $(ARGS)

fuzz-wire: $(VENV)/.installed-fuzz
	$(PY) tests/fuzz/fuzz_wire.py $(ARGS)

# In an environment of its own, so that the tools and what only tests need are not in the list.
audit: $(VENV)-released/.installed
	$(VENV)-released-tools/bin/pip-audit --strict --path "$$($(VENV)-released/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" $(ARGS)

sbom: $(VENV)-released/.installed
	$(VENV)-released-tools/bin/cyclonedx-py environment $(VENV)-released/bin/python --pyproject pyproject.toml --output-reproducible --of JSON -o sbom.json $(ARGS)

format: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) $(VENV)-released $(VENV)-released-tools sbom.json build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tandem needs Python 3.11 or later: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(VENV)/.installed $(VENV)/.installed-face $@

$(VENV)/.installed-face: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[face]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-fuzz: $(VENV)/.installed-dev
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev,fuzz]'
	@touch $@

$(VENV)/.installed-browser: $(VENV)/.installed-dev
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev,browser]'
	@touch $@

$(VENV)-released/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-released
	$(VENV)-released/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(VENV)-released/bin/python -m pip install --quiet --disable-pip-version-check '.[face,calibrate,otel,pkcs11]'
	# Python 3.11 puts its own old setuptools into a new environment; nothing here imports it.
	$(VENV)-released/bin/python -m pip uninstall --quiet --yes setuptools
	$(PYTHON) -m venv $(VENV)-released-tools
	$(VENV)-released-tools/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.7' 'cyclonedx-bom>=7.0'
	@touch $@
