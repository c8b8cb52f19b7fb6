# Everything runs from a virtual environment in .venv, built from requirements.lock. `make help` lists the targets.

PYTHON ?= $(or $(shell command -v python3),python3)
CORES ?= $(shell nproc)
PORT ?= 5000
STAMP := .venv/.ready
UV := .venv/bin/uv
LOCK = --generate-hashes --custom-compile-command "make lock" --no-emit-index-url --quiet $(LOCK_FLAGS)
TFLITE = moonshine/formats/tflite/requirements
SYNC := $(UV) pip sync --python .venv/bin/python --require-hashes --no-build-isolation requirements.lock
# glibc keeps what tensors free, as in training: handing it back to the kernel took a tenth of the tests' time.
TESTS_ENV := OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=2147483647
SNAKEFILES = $(wildcard Snakefile workflow/rules/*.smk)
STUDY = $(shell sed -nE 's/^study:[[:space:]]*["'\'']?([A-Za-z0-9_+-]+).*/\1/p' params.yaml)

# Engines start `python -m moonshine_workflow...`: the first python on PATH has to be ours.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv
unexport PYTHONHOME PYTHONPATH
# A study is many processes: without bytecode in .venv each of them compiles torch again.
unexport PYTHONDONTWRITEBYTECODE

# No tool reports back to its makers.
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export ORT_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help setup reproduce test lint unit explore smoke test-slurm ui lock

help: ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

setup: $(STAMP) ## build .venv from requirements.lock (the other targets do it when needed)

reproduce: $(STAMP) ## run the study in params.yaml under Snakemake; CORES=4 sets the number of cores
	.venv/bin/snakemake --cores $(CORES)
	@echo "Report: results/$(STUDY)/report.html"

test: lint unit ## run every check that CI runs

lint: $(STAMP) ## style, types and layers only
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache --no-logo
	$(if $(SNAKEFILES),.venv/bin/snakefmt --check $(SNAKEFILES))

unit: $(STAMP) ## the tests only
	$(TESTS_ENV) .venv/bin/python -m pytest --numprocesses $(CORES) --dist loadfile --no-loadscope-reorder

explore: $(STAMP) ## property tests on 1,000 random examples each
	$(TESTS_ENV) .venv/bin/python -m pytest --numprocesses $(CORES) -m hypothesis --hypothesis-profile explore

smoke: $(STAMP) ## the smoke-test studies, whole, under both engines
	@.venv/bin/python -m tests.smoke.run --cores $(CORES)

test-slurm: $(STAMP) ## test profiles/slurm on a temporary one-node cluster; as root on Debian, or FORCE=1
	@.venv/bin/python -m tests.slurm.run

ui: $(STAMP) ## log missing runs to MLflow and serve its pages on this machine; PORT=5001 moves it
	.venv/bin/python -m moonshine_workflow.tracking.back_fill --ui --port $(PORT)

lock: $(STAMP) ## update both lock files; LOCK_FLAGS=--upgrade takes newer versions
	$(UV) pip compile pyproject.toml --all-extras --universal --python-version 3.11 --fork-strategy fewest \
		$(LOCK) --output-file requirements.lock
	$(UV) pip compile $(TFLITE).in --universal --python-version 3.11 $(LOCK) --output-file $(TFLITE).lock

# uv and the build backend come from the lock too, by pip, so that nothing is downloaded without a hash.
# What the package cache holds needs no network, so that is tried first.
# .venv/.partial stands while packages are being written: a set-up that was cut short starts from an empty folder.
$(STAMP): pyproject.toml requirements.lock
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "make: Python 3.11 or newer is needed, found: $$("$(PYTHON)" --version 2>&1)." \
			"Name another one: make setup PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: $(PYTHON) has no venv module. On Debian: apt-get install python3-venv" >&2; exit 1; }
	@rm -f $(STAMP)
	@if [ -e .venv/.partial ] || ! .venv/bin/python -c '' 2>/dev/null; then \
		"$(PYTHON)" -m venv --clear .venv; else "$(PYTHON)" -m venv .venv; fi
	@touch .venv/.partial
	@sed -n -e '/^uv==/,/[^\\]$$/p' -e '/^setuptools==/,/[^\\]$$/p' requirements.lock > .venv/bootstrap.txt
	@echo "Installing the packages of requirements.lock into .venv"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/bootstrap.txt
	@$(SYNC) --offline 2>/dev/null || $(SYNC)
	@$(UV) pip install --python .venv/bin/python --no-deps --no-build-isolation --quiet --editable .
	@rm .venv/.partial
	@touch $(STAMP)
