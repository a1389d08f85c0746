# Everything here also runs without make: see "Without make" in the README.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || echo python3)
VENV ?= .venv
EXTRAS ?= hub,gguf,downstream,latent,dev
BIN = $(VENV)/bin

.PHONY: setup bench test lint clean

setup: $(VENV)/.installed

# torch is pinned for the build environments of source packages too: an unpinned one would pull in
# gigabytes of CUDA libraries only to build a wheel.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	PIP_BUILD_CONSTRAINT=build-constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

bench: setup
	$(BIN)/python -m pytest benchmarks --tour -n 2
	@echo "The report: $(CURDIR)/reports/index.html"

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not stress"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
