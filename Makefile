# Every target sets up what it needs in .venv: Python 3.11 or later is all that must be there.
# PYTHON=/path/to/python make test    chooses the interpreter; on Windows see docs/install.md.

ifndef PYTHON
PYTHON := $(shell for candidate in python3.11 python3 python3.12 python3.13 python; do \
	"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo "$$candidate"; break; }; done)
endif

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install -qq --constraint constraints.txt --editable
FILES := pyproject.toml constraints.txt
OUT ?= demo-out

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo test lint format types contracts docs check bench studies changelog clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' Makefile | awk -F': ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

demo: $(VENV)/.runtime  ## analyze the bundled example and write a report
	@$(BIN)/python -m alliancedyn demo --out "$(OUT)"
	@echo "Open $$(cd "$(OUT)" && pwd)/report.html in a browser."
	@echo "With data of your own: $(BIN)/alliancedyn map export.csv --out mapping.toml"

test: $(VENV)/.dev  ## run the tests
	@$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

lint: $(VENV)/.dev  ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev  ## put the code in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev  ## check types
	$(BIN)/mypy

contracts: $(VENV)/.dev  ## check that imports respect the floors
	$(BIN)/lint-imports

docs: $(VENV)/.docs  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

check: lint types contracts docs test  ## everything above, tests last

bench: $(VENV)/.dev  ## time the engine against its peers where they are installed
	@for script in benchmarks/*.py; do $(BIN)/python "$$script" $(ARGS) || exit 1; done

studies: $(VENV)/.dev  ## hostile things by the thousand, ratings at every so many sessions: minutes
	$(BIN)/python simulations/hostile_inputs.py $(ARGS)
	$(BIN)/python simulations/structured_gaps.py

changelog:  ## print the next section of CHANGELOG.md from its fragments
	@for kind in results added fixed; do \
		set -- changelog.d/*.$$kind.md; [ -e "$$1" ] || continue; \
		printf '### %s\n\n' "$$kind"; sed 's/^/- /' "$$@"; echo; done

clean:  ## remove the environment and everything generated
	rm -rf $(VENV) site demo-out

$(VENV)/.made: 
	@[ -n "$(PYTHON)" ] || { echo "alliancedyn needs Python 3.11 or later; none was found on the PATH." \
		"Install it, or name one: make PYTHON=/path/to/python3.11 ..." >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "alliancedyn needs Python 3.11 or later; $(PYTHON) is not." \
		"Name another: make PYTHON=/path/to/python3.11 ..." >&2; exit 2; }
	@echo "Making $(VENV) with $(PYTHON)" >&2
	@"$(PYTHON)" -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.made $(FILES)
	@echo "Installing alliancedyn into $(VENV): a minute or two, once" >&2
	@$(INSTALL) .
	@touch $@

$(VENV)/.dev: $(VENV)/.made $(FILES)
	@echo "Installing alliancedyn and its development tools into $(VENV): two minutes, once" >&2
	@$(INSTALL) '.[dev]'
	@touch $@ $(VENV)/.runtime

$(VENV)/.docs: $(VENV)/.made $(FILES)
	@echo "Installing alliancedyn and its documentation tools into $(VENV): a minute, once" >&2
	@$(INSTALL) '.[docs]'
	@touch $@ $(VENV)/.runtime
