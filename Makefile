# Two commands do everything: `make study` runs the tour on the built-in dataset, `make test` the tests.
# Each makes .venv from requirements.txt on first use. PYTHON chooses the interpreter (3.11 or later).

PYTHON ?= python3
BIN := .venv/bin
STUDY ?=
NAME ?= rooms-quick
BOOK := results/local/$(NAME)/book

.PHONY: study test test-all lab checkpoints book clean

study: .venv/installed
	$(BIN)/crodino study $(STUDY)

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist loadfile

# with what takes minutes: every moment of being killed, whole grids on workers, real fits of aligned UMAP
test-all: test
	$(BIN)/python -m pytest -m slow --timeout 7200

lab: .venv/installed
	$(BIN)/jupyter lab notebooks

# networks that have learned enough to look at, for the notebooks: about 25 minutes, once
checkpoints: .venv/installed
	$(BIN)/crodino dials rows --methods baseline,self-training,kd,crodino-kd,csk-net --seeds 1

# the executed notebooks of a study and docs/ as one site; NAME chooses the study
book: study
	$(BIN)/pip install --quiet jupyter-book==1.0.4.post1 sphinx-mathjax-offline==0.0.2
	rm -rf $(BOOK) && mkdir -p $(BOOK)/docs
	cp docs/book/*.yml $(BOOK) && cp docs/*.md $(BOOK)/docs
	cp results/local/$(NAME)/notebooks/*.ipynb $(BOOK)
	$(BIN)/jupyter-book build --quiet $(BOOK)
	@echo "the book: $(BOOK)/_build/html/index.html"

clean:
	rm -rf .venv .cache results/local

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'crodino needs Python 3.11 or later: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet -r requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@
