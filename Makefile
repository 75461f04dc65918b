# `make app` starts the page, `make test` checks the code; both first set up what they need in .venv.
# With another Python than the first fitting one on the PATH: make app PYTHON=/path/to/python3.12

VENV := .venv
BIN := $(VENV)/bin
comma := ,

FITS := -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell $(name) $(FITS) && echo $(name))))

# For the page the diffusion engine is installed only where an NVIDIA GPU can run it; the tests run it in miniature.
DIFFUSION := diffusion,quantization
GPU := $(shell nvidia-smi -L 2>/dev/null | grep '^GPU')
APP := $(VENV)/installed-demo$(if $(GPU),$(comma)$(DIFFUSION))
TEST := $(VENV)/installed-demo,mcp,layers,$(DIFFUSION),dataset,training,evaluation,ray,test

# How pytest spreads the tests over the processor cores. One after the other: make test PARALLEL=
PARALLEL := -n 2 --dist loadfile

# Where the browser tests look before they take the one that Playwright brings.
CHROMIUM := $(wildcard /usr/bin/chromium)
SUDO := $(if $(filter 0,$(shell id -u)),,sudo --non-interactive)

.DEFAULT_GOAL := help
.PHONY: help app test test-all format benchmark clean weights chromium

help:
	@echo "make app        start the page at http://127.0.0.1:7860"
	@echo "make test       linter, type checker and tests, those in the browser too"
	@echo "make test-all   only the tests that make test leaves out because they are slow"
	@echo "make format     put the code into the project's format"
	@echo "make benchmark  measure the correspondence engine on this machine"
	@echo "make clean      remove .venv and everything else that was built"

app: $(APP) weights
	$(BIN)/python app.py

test: $(TEST) weights chromium
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(PARALLEL) -m "not slow"

# One after the other: some of these use every core themselves.
test-all: $(TEST) weights chromium
	$(BIN)/pytest -m slow

format: $(TEST)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(TEST) weights
	$(BIN)/python -m benchmarks.correspondence

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis test-results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp for each set of extras: pip runs again only when the project's requirements changed.
$(VENV)/installed-%: pyproject.toml setup.py constraints.txt | $(BIN)/python
	@echo "Installing refgc-sr2[$*] into $(VENV); the first time this takes some minutes."
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install -c constraints.txt -e '.[$*]'
	@touch $@

$(BIN)/python:
	@$(or $(PYTHON),false) $(FITS) || { echo "RefGC needs Python 3.11 or newer: install it, or name it with PYTHON=/path/to/python3." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv module: install it, on Debian and Ubuntu with 'apt install python3-venv'." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

# The small networks of the correspondence engine, which works without them too. Those that draw surroundings are larger,
# so the page's set-up leaves them to whoever wants them.
weights: | $(if $(filter app,$(MAKECMDGOALS)),$(APP),$(TEST))
	@$(BIN)/refgc setup$(if $(filter app,$(MAKECMDGOALS)),, --surroundings) || true

# Debian's own Chromium where it can be installed, else the one that Playwright brings.
chromium: $(TEST)
ifeq ($(CHROMIUM),)
	@if grep -qsx 'ID=debian' /etc/os-release && $(SUDO) apt-get update -qq 2>/dev/null; then \
		$(SUDO) apt-get install -y -qq --no-install-recommends chromium fonts-liberation >/dev/null; \
	else \
		{ test -z "$(SUDO)" && $(BIN)/playwright install --with-deps chromium; } || $(BIN)/playwright install chromium; \
	fi
endif
