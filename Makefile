# Every target does its own set-up, in .venv; Python >= 3.10, pip, make and a C compiler are all it needs.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

# uv sees a local wheel folder where pip is told of one; pip parts its folders by spaces, uv by commas.
comma := ,
space := $() $()
export UV_FIND_LINKS ?= $(subst $(space),$(comma),$(PIP_FIND_LINKS))
# PyPI's torch brings gigabytes of CUDA; from PyTorch's own index uv takes the build for this machine, where it is reached.
TORCH := $(if $(UV_FIND_LINKS),,--torch-backend auto)

DEMO := --dataset glyphs --model conv4 --algorithm maml --ways 5 --shots 1 --iterations 200 \
	--validate-every 100 --validation-episodes 100

.PHONY: demo test test-all test-long fuzz lint bench soak clean

demo: $(INSTALLED)
	rm -rf runs/demo
	$(BIN)/fewshot-kit train $(DEMO) --run runs/demo

test: $(INSTALLED)
	$(BIN)/python -m pytest

# The suite on every supported Python, and with the newest PyTorch: each found on this machine, half an hour in all.
test-all: $(INSTALLED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python nox
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/nox

test-long: $(INSTALLED)
	$(BIN)/python -m pytest -m long

# The fuzz tests with other random files each time: FUZZ_EXAMPLES for each, by default 5000, which takes about half an hour.
fuzz: $(INSTALLED)
	FUZZ_PROFILE=random $(BIN)/python -m pytest tests/fuzz

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy fewshot_kit
	$(BIN)/lint-imports

# Kills, damaged files and files made in malice: a quarter of an hour; it fails if anything is lost or let in.
soak: $(INSTALLED)
	$(BIN)/python benchmarks/soak.py

bench: $(INSTALLED)
	$(BIN)/python benchmarks/accuracy.py

clean:
	rm -rf .venv runs/demo build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("fewshot_kit needs Python 3.10 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --python $(BIN)/python $(TORCH) -e '.[dev]' $(if $(TORCH),|| $(BIN)/uv pip install --python $(BIN)/python -e '.[dev]')
	touch $@
