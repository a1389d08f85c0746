# Everything here also runs without make: see "Without make" in the README.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || echo python3)
VENV ?= .venv
EXTRAS ?= hub,gguf,downstream,latent,statistics,docs,dev
BIN = $(VENV)/bin

.PHONY: setup bench real test lint docs clean

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

# Real weights on a CPU, in about ten minutes: SmolLM2-135M-Instruct (dequantized Q4_1) by seven
# methods. The texts and questions are those that ship with the project; DATA=FOLDER takes
# WikiText-2, ARC-Easy, SQuAD 2.0 and GSM8K from there, as folders of the catalogue's names.
REAL = seq_len=512 n_calibration_samples=8 pool_documents=2000 evaluation_tokens=4096 n_questions=12
REAL += arc_form=likelihood maths_new_tokens=48 latency_tokens=8
SHIPPED = calibration_corpus=embedded_text evaluation_corpus=embedded_text
SHIPPED += arc_task=four_choices squad_task=passages maths_task=word_problems
GIVEN = wikitext2 arc_easy squad_v2 gsm8k

real: setup
	$(BIN)/benchsuite models get smollm2_135m_q4
	$(BIN)/python -m pytest benchmarks -n 2 --reports-dir reports/real \
		-k "test_quantizers and smollm2_135m_q4 and seed42 and (fp16 or rtn_w4 or hqq_w4 or gptq_w4) \
			and not clip and not sequential and not fp4 and not rotated" \
		$(foreach setting,$(REAL) $(if $(DATA),arc_task=arc_easy maths_task=gsm8k,$(SHIPPED)),--set quantizers.$(setting)) \
		$(if $(DATA),$(foreach name,$(GIVEN),--local $(name)=$(DATA)/$(name)))
	@echo "The report: $(CURDIR)/reports/real/index.html"

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not stress"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site, from docs/ as it is. A link that leads nowhere fails it.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "The site: $(CURDIR)/build/site/index.html"

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
