# Two commands do everything: `make study` runs the tour on the built-in dataset, `make test` the tests.
# Each makes .venv from requirements.txt on first use. PYTHON chooses the interpreter (3.11 or later).

PYTHON ?= python3
BIN := .venv/bin
STUDY ?=

.PHONY: study test lab book clean

study: .venv/installed
	$(BIN)/crodino study $(STUDY)

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist loadfile

lab: .venv/installed
	$(BIN)/jupyter lab notebooks

clean:
	rm -rf .venv .cache results/local

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'crodino needs Python 3.11 or later: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet -r requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@
