# make demo | test | lint | bench. Everything is installed into .venv first.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
BIN := .venv/bin
# Threads that wait by spinning slow a busy machine down tenfold.
export OMP_WAIT_POLICY := PASSIVE
SAMPLES := domains/seqmlm_domains/protein/samples
TEM1 := $(SAMPLES)/BLAT_ECOLX.fasta
HOMOLOGS := runs/tem1-homologs.fasta

.PHONY: demo test lint format bench bench-gpu compile-all test-triton-3.6 wheel-check lock clean

# The catalytic serine of TEM-1 stands hidden between FPMM and TFKV. Neither TEM-1 nor what is 95 %
# identical to it has been trained on.
demo: .venv/ready
	rm -rf runs/demo
	mkdir -p runs
	$(BIN)/seqmlm protein homologs $(SAMPLES)/blactamase_family.fasta.gz --wild-type $(TEM1) \
		--max-identity 0.95 --output $(HOMOLOGS)
	$(BIN)/seqmlm train --config configs/tem1_family.toml --data $(HOMOLOGS) --output runs/demo
	@echo
	@echo "TEM-1 beta-lactamase with its catalytic residue hidden (it is S):"
	@$(BIN)/seqmlm fill-mask runs/demo --top-k 3 "$$(grep -v '>' $(TEM1) | tr -d '\n' | \
		sed 's/FPMMSTFKV/FPMM<mask>TFKV/')"
	@echo
	@echo "Its 4,996 single mutants, none of which was trained on, against measured fitness:"
	@$(BIN)/seqmlm protein variants runs/demo --wild-type $(TEM1) --method random-mask \
		--mutations $(SAMPLES)/BLAT_ECOLX_Stiffler2015_singles.csv.gz --measured DMS_score \
		--homologs $(HOMOLOGS) --output runs/demo/variants.csv
	@echo
	@echo "Pictures: runs/demo/variants.png (every mutation) and runs/demo/plots/loss.png"
	@echo "Next, with your own proteins:"
	@echo "  $(BIN)/seqmlm train --domain protein --data my_proteins.fasta.gz --output runs/mine"

# Threads are pinned: two processes of many threads each take minutes instead of seconds.
test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q -m "not gpu"

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Needs data of its own: make bench DATA=proteins.fasta.gz
bench: .venv/bench-ready
	$(BIN)/python benchmarks/run_all.py $(if $(DATA),--data $(DATA))

# Correctness and speed of the kernels on a GPU, in nine minutes. Only torch and triton are needed:
# from any environment that has them, PYTHON -m benchmarks.gpu does the same. Nothing is installed
# where there is no GPU.
bench-gpu:
	@nvidia-smi >/dev/null 2>&1 || { \
		echo "make bench-gpu: nvidia-smi finds no NVIDIA GPU or driver here." >&2; exit 2; }
	$(MAKE) .venv/gpu-ready
	$(BIN)/python -m benchmarks.gpu

# Every kernel for every architecture: an hour of one core. `make test` compiles a part. What is
# compiled is kept in build/, so that it goes on where it was stopped:
# make compile-all TARGETS="sm_100 gfx942" PROCESSES=1
compile-all: .venv/ready
	PYTHONPATH=$(CURDIR)/kernels OMP_NUM_THREADS=1 $(BIN)/python -m \
		tests.kernels.triton.compile_all $(if $(TARGETS),--targets $(TARGETS)) \
		$(if $(PROCESSES),--processes $(PROCESSES))

# The oldest Triton that the kernels run on: their contract, interpreted, and compiling them.
# Its interpreter cannot use a newer numpy. Both go to a folder of their own, before those of .venv.
test-triton-3.6: .venv/ready build/triton-3.6/ready
	PYTHONPATH=$(CURDIR)/build/triton-3.6 $(BIN)/python -c \
		'import triton; assert triton.__version__ == "3.6.0", triton.__version__'
	PYTHONPATH=$(CURDIR)/build/triton-3.6 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q \
		--timeout 1800 tests/kernels/triton/test_compiled.py \
		tests/contract/test_backends.py::test_interpreted_backend_keeps_its_contract

build/triton-3.6/ready: .venv/uv
	mkdir -p build/triton-3.6
	$(UV_PIP) --python $(BIN)/python --target build/triton-3.6 --no-deps 'triton==3.6.0' \
		'numpy>=2.0,<2.4'
	touch $@

# The wheel in an empty environment, used from outside the checkout.
wheel-check: .venv/ready
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/uv build -q --wheel --out-dir build/wheel
	$(BIN)/python -m venv build/wheel/venv
	$(UV_PIP) --python build/wheel/venv/bin/python -c lock.txt build/wheel/*.whl
	cd build/wheel && venv/bin/seqmlm domains
	cd build/wheel && ! venv/bin/python -c "import domains" 2>/dev/null

# uv reads UV_FIND_LINKS only; pip's own setting is passed on, for machines with local wheels.
UV_PIP := UV_FIND_LINKS="$${UV_FIND_LINKS:-$${PIP_FIND_LINKS:-}}" $(BIN)/uv pip install -q

.venv/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q uv
	touch $@

.venv/ready: .venv/uv pyproject.toml lock.txt
	$(UV_PIP) --python $(BIN)/python -c lock.txt -e '.[dev]'
	touch $@

.venv/gpu-ready: .venv/uv pyproject.toml lock.txt
	$(UV_PIP) --python $(BIN)/python -c lock.txt torch triton numpy
	touch $@

.venv/bench-ready: .venv/ready
	$(UV_PIP) --python $(BIN)/python -c lock.txt -e '.[bench]'
	touch $@

lock: .venv/uv
	printf 'torch==2.13.0\ntriton==3.7.1\n' > .venv/pins.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --extra dev --extra bench \
		-c .venv/pins.txt --no-header --no-annotate pyproject.toml -o lock.txt

clean:
	rm -rf .venv build runs
