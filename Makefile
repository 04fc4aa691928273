# make demo | test | test-quick | check | bench: each sets itself up first. make gpu sets nothing up.
#   PYTHON=python3.12       which interpreter (3.11 or newer)
#   VENV=.venv              where to install
#   CONSTRAINTS=file        other pins, or /dev/null for the newest of everything
#   PIP_FLAGS="..."         e.g. --index-url of PyTorch's CPU-only wheels, see README
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
PIP_FLAGS ?=
PRESET ?= small
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Two OpenMP pools that spin take the cores from each other.
export OMP_WAIT_POLICY ?= passive

# For the kernels alone: the CUDA compiler beside our jax, and later versions of jax on a later Python.
AOT := $(VENV)-aot
NEXT_JAX ?= 0.11.2
# For examples/with_ray.py alone.
RAY := $(VENV)-ray
# TorchRec itself, which its users' names are compared with. Its torchmetrics is older than ours.
TORCHREC := $(VENV)-torchrec
TORCHREC_PINS := tests/compat/torchrec/beside/constraints.txt
# S3, by s3fs beside moto's server. Their botocore wants an older dateutil than ours.
S3 := $(VENV)-s3
S3_PINS := s3fs==2026.9.0 moto[server]==5.2.5
TORCHREC_TESTS := tests/compat/torchrec -W ignore
KERNEL_TESTS ?= tests/kernels
NEXT_JAX_FULL ?= 0.11.2 0.12.0.1
KERNEL_MARK ?= not full
# Without the heavy counts; the slowest are told, for these streams must end in time.
QUICK := -m "not full" --durations=30 --durations-min=5
# Three streams of about equal length, for tests that wait leave a core to others; the third is what the two are not. Kernels come
# first: they need no loops of numba, which another stream compiles meanwhile, once for all.
FIRST := tests/kernels tests/hygiene tests/tiers
SECOND := tests/packets tests/exchange tests/serving tests/cli tests/serialize tests/resources
MACHINE_CODE_TESTS := tests/kernels/test_aot.py tests/kernels/test_aot_step.py

# The parts of make test-full: FULL_JOBS at a time, the longest first, each a target of its own.
FULL_JOBS ?= 2
EQUIVALENCE := tests/tiers/test_equivalence.py
MACHINE := tests/tiers/test_table_in_tiers_machine.py
EXCHANGE := tests/exchange tests/packets tests/serving tests/cli
BY_NAME := full-contract full-serialize full-rest full-numba full-tiers full-jax full-pallas full-machine full-exchange
FULL := $(BY_NAME) full-kernels full-later-jax full-torchrec full-ray full-s3

.PHONY: demo test test-quick gpu slowest test-full $(FULL) test-machine-code test-kernels-next test-torchrec test-ray test-s3 machine-code check format bench setup clean

demo: $(READY)
	$(BIN)/recis train --model deepfm --preset $(PRESET) --lr 3e-3

test: $(READY)
	@logs=$$(mktemp -d); status=0; \
	$(BIN)/python -m pytest $(QUICK) $(FIRST) >$$logs/1 2>&1 & first=$$!; \
	$(BIN)/python -m pytest $(QUICK) $(SECOND) >$$logs/2 2>&1 & second=$$!; \
	$(BIN)/python -m pytest $(QUICK) $(patsubst %,--ignore=%,$(FIRST) $(SECOND)) || status=$$?; \
	wait $$first || status=$$?; wait $$second || status=$$?; cat $$logs/1 $$logs/2; rm -r $$logs; exit $$status

# tests/quick.txt: every stage on every backend, a few tests of every room.
test-quick: $(READY)
	$(BIN)/python -m tests.quick

# On a machine with a GPU, by its own Python, jax and torch: see tests/gpu/__init__.py. 2 where there is none.
GPU_RESULTS ?= gpu-results
gpu:
	$(PYTHON) -m tests.gpu --out $(GPU_RESULTS)

# LOG: what `make test` printed.
slowest: $(READY)
	@test -n "$(LOG)" || { echo "make slowest LOG=FILE, with what make test printed: make test 2>&1 | tee FILE"; exit 1; }
	$(BIN)/python -m tests.slowest $(LOG)

test-full: $(READY) $(AOT)/.ready
	+$(MAKE) --jobs=$(FULL_JOBS) --output-sync=target --keep-going $(FULL)

full-jax: TESTS = $(EQUIVALENCE) -k jax
full-pallas: TESTS = $(EQUIVALENCE) -k pallas
full-numba: TESTS = $(EQUIVALENCE) -k "not (jax or pallas)"
full-machine: TESTS = $(MACHINE)
full-tiers: TESTS = tests/tiers --ignore=$(EQUIVALENCE) --ignore=$(MACHINE)
full-contract: TESTS = tests/contract
full-serialize: TESTS = tests/serialize
full-exchange: TESTS = $(EXCHANGE)
full-rest: TESTS = $(patsubst %,--ignore=%,tests/tiers tests/contract tests/serialize $(EXCHANGE))
full-numba full-jax full-pallas full-machine: export OMP_NUM_THREADS = 1

$(BY_NAME): $(READY)
	RECIS_TEST_FULL=1 $(BIN)/python -m pytest $(TESTS)

full-kernels: $(AOT)/.ready
	$(AOT)/bin/python -m pytest $(MACHINE_CODE_TESTS) -rs

full-later-jax:
	$(MAKE) test-kernels-next NEXT_JAX="$(NEXT_JAX_FULL)" KERNEL_MARK=

full-torchrec: $(TORCHREC)/.ready
	RECIS_TEST_FULL=1 $(TORCHREC)/bin/python -m pytest $(TORCHREC_TESTS)

# Warnings are TorchRec's own.
test-torchrec: $(TORCHREC)/.ready
	$(TORCHREC)/bin/python -m pytest -m "not full" $(TORCHREC_TESTS)

test-machine-code: $(AOT)/.ready
	$(AOT)/bin/python -m pytest -m "not full" $(MACHINE_CODE_TESTS) -rs

test-ray full-ray: $(RAY)/.ready
	$(RAY)/bin/python -m pytest tests/examples/test_ray.py -rs

test-s3 full-s3: $(S3)/.ready
	$(S3)/bin/python -m pytest tests/serialize/checkpoint/test_s3.py -rs

test-kernels-next:
	VENV=$(VENV)-next PIP_FLAGS="$(PIP_FLAGS)" TESTS="$(KERNEL_TESTS)" MARK="$(KERNEL_MARK)" tests/kernels/next.sh $(NEXT_JAX)

machine-code: $(AOT)/.ready
	$(AOT)/bin/python -m recis_core.pallas_kernels.machine_code --out pallas_kernels/MACHINE_CODE.md

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python -m bench step

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "recis-core needs Python 3.11 or newer; $(PYTHON) is %d.%d. Try make PYTHON=python3.12." % v[:2])'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "$(PYTHON) lacks venv. On Debian and Ubuntu: apt install python3-venv."; exit 1; }
	@echo "Setting up $(VENV), once: PyTorch, then the rest. Some minutes, most of them for downloads."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_FLAGS) --constraint $(CONSTRAINTS) torch
	$(BIN)/python -m pip install --constraint $(CONSTRAINTS) --editable '.[dev]'
	@echo "$(VENV) is ready."
	@touch $@

# The CUDA compiler of jax, without a driver or a GPU; everything else from $(VENV).
$(AOT)/.ready: $(READY)
	$(PYTHON) -m venv $(AOT)
	$(AOT)/bin/python -m pip install --quiet $(PIP_FLAGS) --no-deps --constraint $(CONSTRAINTS) jax-cuda13-plugin jax-cuda13-pjrt
	$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' \
	  > "$$($(AOT)/bin/python -c 'import site; print(site.getsitepackages()[0])')/recis-core.pth"
	@touch $@

# TorchRec on CPUs; PyTorch and everything else from $(VENV).
$(TORCHREC)/.ready: $(READY) $(TORCHREC_PINS)
	$(PYTHON) -m venv $(TORCHREC)
	$(TORCHREC)/bin/python -m pip install --quiet --no-deps --requirement $(TORCHREC_PINS)
	$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' \
	  > "$$($(TORCHREC)/bin/python -c 'import site; print(site.getsitepackages()[0])')/recis-core.pth"
	$(TORCHREC)/bin/python -W ignore -c 'import torchrec, fbgemm_gpu'
	@touch $@

# Ray; everything else from $(VENV), torch too.
$(RAY)/.ready: $(READY)
	$(PYTHON) -m venv $(RAY)
	$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' \
	  > "$$($(RAY)/bin/python -c 'import site; print(site.getsitepackages()[0])')/recis-core.pth"
	$(RAY)/bin/python -m pip install --quiet --constraint $(CONSTRAINTS) 'ray[train]'
	@touch $@

# S3's client and a server; everything else from $(VENV).
$(S3)/.ready: $(READY)
	$(PYTHON) -m venv $(S3)
	$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' \
	  > "$$($(S3)/bin/python -c 'import site; print(site.getsitepackages()[0])')/recis-core.pth"
	$(S3)/bin/python -m pip install --quiet '$(firstword $(S3_PINS))' '$(lastword $(S3_PINS))'
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-aot $(VENV)-ray $(S3) $(TORCHREC) $(VENV)-next-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
