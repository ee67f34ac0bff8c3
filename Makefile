# Every target makes the virtual environment when it is missing; all that is needed is Python >= 3.11, make and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Two OpenMP threads on two busy cores can be many times slower than one.
export OMP_NUM_THREADS ?= 1
# What Python has compiled is kept, whatever the shell says: to import torch, Pyro and ArviZ takes a third of the time then.
export PYTHONDONTWRITEBYTECODE :=
# Inductor's pool of processes is for Triton alone; each process that compiles would start one, which imports torch.
export TORCH_WARM_POOL ?= 0

.PHONY: demo test test-long test-both test-slow notebooks docs trust bench readability lint format clean

demo: $(READY)
	$(BIN)/ppl-gen fit vae --data digits --epochs 200 --batch-size 50 --latent-dim 10 --out runs/demo --overwrite
	$(BIN)/ppl-gen evaluate runs/demo

test: $(READY)
	$(BIN)/pytest -n auto --dist worksteal

test-long: $(READY)
	$(BIN)/pytest -n auto --dist worksteal -m "long and not slow"

# Those of both, collected once.
test-both: $(READY)
	$(BIN)/pytest -n auto --dist worksteal -m "not slow"

test-slow: $(READY)
	$(BIN)/pytest -n auto --dist worksteal -m slow

notebooks: $(READY)
	$(BIN)/python tests/run_notebooks.py

# BENCH=--quick takes some minutes; the rivals that take part come with: pip install '.[bench]'
bench: $(READY)
	$(BIN)/python tests/benchmarks/bench.py $(BENCH)

# The package as it is installed, which mypy and the site's reference read: neither sees through the import hook of an editable install.
.PHONY: installed
installed: $(READY)
	rm -rf build && $(BIN)/pip install --quiet --no-deps --target build/installed .

# The site, into build/site; a warning is an error.
docs: installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --site-dir build/site

# What each method finds on toys with exact answers: docs/trust.md.
trust: $(READY)
	$(BIN)/python tests/trust.py

readability: $(READY)
	$(BIN)/python tests/readability.py

lint: installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=build/installed $(BIN)/mypy -p ppl_gen

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Python compiles what it imports, some two fifths of what is installed; pip would compile all of it, for most of a minute.
$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ppl-gen needs Python >= 3.11; say make PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --editable '.[dev]'
	touch $@

clean:
	rm -rf build $(VENV)
