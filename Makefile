# Two commands for a new user: `make demo` and `make test`. Each does all its set-up in .venv.
PYTHON ?= python3
VENV ?= .venv
OUT ?= out/demo
VIDEO ?=
PIP := $(VENV)/bin/python -m pip
RUN := $(VENV)/bin/python
TOOLS := PATH="$(abspath $(VENV))/bin:$$PATH"
STAMP := $(VENV)/.nerfad-installed
EMULATED := $(VENV)/.nerfad-emulated
NATIVE := $(shell find csrc -type f) CMakeLists.txt setup.py pyproject.toml constraints.txt
# PyTorch's CPU index for machines without a GPU: TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu make ...
TORCH_INDEX := $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL),)

.PHONY: install demo test lint format bench gate gpu-check clean

install: $(STAMP)

$(STAMP): $(NATIVE)
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -c "import torch" 2>/dev/null || $(PIP) install $(TORCH_INDEX) -c constraints.txt torch
	$(PIP) install -q -c constraints.txt "setuptools>=77,<82" cmake ninja pybind11
	$(TOOLS) NERFAD_EMU=$(or $(NERFAD_EMU),0) $(PIP) install -q -c constraints.txt --no-build-isolation -e ".[all]"
	$(VENV)/bin/nerfad models fetch || echo "models not fetched: 'nerfad preprocess' needs them, all else works"
	touch $@

# The CUDA sources over the emulator: only the tests need them, so that `make demo` does not wait for them.
$(EMULATED): $(STAMP)
	$(TOOLS) $(RUN) setup.py -q build_ext --inplace
	touch $@

demo: install
	$(VENV)/bin/nerfad demo --out $(OUT) $(if $(VIDEO),--video $(VIDEO),)

test: $(EMULATED)
	$(RUN) -m pytest

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run --Werror $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'tests/cpp/*.cpp' 'benchmarks/cpp/*.cpp')

format: install
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'tests/cpp/*.cpp' 'benchmarks/cpp/*.cpp')

# Kernels against torch and against the machine's roofs, some minutes; then docs/performance.md from the figures.
bench: install
	$(RUN) -m nerfad.bench --json benchmarks/results/cpu.json
	$(RUN) -m nerfad.bench --report benchmarks/results/cpu.json

# Every CUDA kernel for every architecture: registers, spills, tensor-core instructions. Needs nvcc, no GPU.
gate: install
	$(RUN) benchmarks/gate_cuda.py

# On a GPU machine: builds, runs all CUDA tests (compute-sanitizer where it works), benchmarks; one JSON, one log.
# Offline: `make gpu-check PYTHON=.../bin/python`, an environment that has what nerfad needs.
gpu-check: $(if $(filter file,$(origin PYTHON)),install)
	bash benchmarks/gpu_check.sh

clean:
	rm -rf build nerfad/*.so
