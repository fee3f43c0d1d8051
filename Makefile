# The commands of this project; `make` lists them. Needs Python 3.11 and make, nothing else.
#
# make itself exits with 2 whenever a command fails and prints the command's own code ("Error 1" is
# a missed bar). A script that needs to tell the two apart runs .venv/bin/python -m ... directly.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python
# Workers of the tests; 0 runs them in one process, for a debugger.
WORKERS ?= 2
PYTEST := $(RUN) -m pytest -n $(WORKERS)

# Threads that wait for work sleep. Spinning, torch's would slow everything down several times over
# on a machine that does something else as well.
export OMP_WAIT_POLICY ?= PASSIVE

# What to make and to judge: make export-android RECIPE="fp32 int8" RESOLUTION=hd
RUNTIME ?=
RECIPE ?=
RESOLUTION ?=
DEVICE ?=
CHECKPOINT ?=
FACTORY ?=
WEIGHTS ?=
CALIBRATION ?=
CAPTURES ?=
OUTPUT ?=
ARGS ?=

NETWORK := $(if $(CHECKPOINT),--checkpoint '$(CHECKPOINT)') $(if $(FACTORY),--factory '$(FACTORY)') \
	$(if $(WEIGHTS),--weights '$(WEIGHTS)') $(if $(CALIBRATION),--calibration '$(CALIBRATION)')
PLACES := $(if $(CAPTURES),--captures '$(CAPTURES)') $(if $(OUTPUT),--output '$(OUTPUT)')
FILES := $(foreach r,$(RUNTIME),--runtime $(r)) $(foreach r,$(RECIPE),--recipe $(r))
SIZES := $(foreach r,$(RESOLUTION),--resolution $(r)) $(if $(DEVICE),--device '$(DEVICE)')
CHOICE := $(FILES) $(SIZES)
# Export and its check name the same files, so that files of other sizes are left alone.
BUILD := $(NETWORK) $(PLACES) $(FILES) $(or $(strip $(SIZES)),--resolution preview)

# Emulated float arithmetic takes seconds at 64x64; phones have time for the preview size.
ANDROID_FILES := $(or $(strip $(FILES)),--runtime litert --runtime executorch --recipe fp32 --recipe int8 \
	--recipe int8-full) $(or $(strip $(foreach r,$(RESOLUTION),--resolution $(r))),--resolution preview \
	$(if $(filter-out emulator,$(DEVICE)),,--resolution 64x64))

.PHONY: help setup doctor export-ios export-android export train sensitivity search finetune-int8 stability \
	parity demo bench peers bench-android baseline compare emulator emulator-stop report test test-full check clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  Choose with RUNTIME= RECIPE= RESOLUTION= DEVICE= CHECKPOINT= FACTORY= WEIGHTS='
	@echo '  CALIBRATION= CAPTURES= OUTPUT=, for example: make export-android RECIPE="fp32 int8" RESOLUTION=hd'
	@echo '  ARGS= is passed on as it is, for example: make train ARGS="--steps 20"'

setup: ## Install the pinned packages into .venv and derive the stereo captures
	@[ -x $(RUN) ] || command -v '$(PYTHON)' > /dev/null || { \
		echo 'Python 3.11: got no $(PYTHON) on the PATH, needed it to create .venv.' \
			'Install it, or name yours: make setup PYTHON=/path/to/python3.11' >&2; exit 2; }
	@[ -x $(RUN) ] || $(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
		echo 'Python 3.11: got' "$$($(PYTHON) --version 2>&1)" 'from $(PYTHON), needed 3.11.' \
			'Name yours: make setup PYTHON=/path/to/python3.11' >&2; exit 2; }
	@[ -x $(RUN) ] || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo 'Environment .venv: $(PYTHON) -m venv failed. Install its venv module' \
			'(python3.11-venv on Debian and Ubuntu).' >&2; exit 2; }
	@# The copy is made last, so that an interrupted installation is taken up again.
	@cmp -s requirements.lock $(VENV)/installed.lock || { set -o pipefail; \
		echo 'Installing the pinned packages into .venv (2.6 GB; a minute or two, more on a slow line)'; \
		$(RUN) -m pip install --disable-pip-version-check --progress-bar off -r requirements.lock \
			| awk '/^Collecting/ {printf "."; fflush()} \
				/^Installing/ {printf " downloaded, unpacking "; fflush()} END {print ""}' \
		&& cp requirements.lock $(VENV)/installed.lock; }
	@$(RUN) -m dfnet.stereo

doctor: ## Say what this machine can build, run and measure, and what to install
	@[ -x $(RUN) ] || { echo 'Environment .venv: got none, needed it to look. Run: make setup' >&2; exit 2; }
	@$(RUN) -m export doctor $(ARGS)

export-ios: setup ## Export for iPhones (Core ML, ExecuTorch) and check every file
	@$(RUN) -m export --platform ios $(BUILD) $(ARGS)
	@$(RUN) -m benchmarks verify --platform ios $(BUILD)

export-android: setup ## Export for Android (LiteRT, ExecuTorch, ONNX) and check every file
	@$(RUN) -m export --platform android $(BUILD) $(ARGS)
	@$(RUN) -m benchmarks verify --platform android $(BUILD)

export: export-ios export-android ## Export for both

train: setup ## Train the reference checkpoint (about an hour of CPU time)
	@$(RUN) -m dfnet.train $(ARGS)

sensitivity: setup ## Measure what each tensor costs in int8, on validation captures
	@$(RUN) -m quantize sensitivity $(NETWORK) $(ARGS)

search: setup ## Find the cheapest recipe within a budget: ARGS="--budget-db 0.03"
	@$(RUN) -m quantize search $(NETWORK) $(ARGS)

finetune-int8: setup ## Learn int8 weights anew, where no recipe is good enough (up to 30 CPU minutes)
	@$(RUN) -m quantize finetune $(NETWORK) $(ARGS)

stability: setup ## Check that two halves of the calibration captures do equally well
	@$(RUN) -m quantize stability $(NETWORK) $(ARGS)

parity: setup ## Compare every exported file with the float network
	@$(RUN) -m benchmarks parity $(NETWORK) $(PLACES) $(CHOICE) $(ARGS)

demo: setup ## Click a subject to refocus, in a browser, by the int8 LiteRT file
	@$(RUN) -m export --platform android --runtime litert --recipe int8 --resolution preview $(NETWORK) \
		$(if $(OUTPUT),--output '$(OUTPUT)') > /dev/null
	@# The newest, where an older build of other ingredients lies beside it.
	@$(RUN) -m dfnet demo $(ARGS) --artifact \
		"$$(ls -td '$(or $(OUTPUT),artifacts)'/android/litert-xnnpack-int8-768x1024-*/ | head -n 1)"

bench: setup ## Measure latency, int8 against fp32, on this machine
	@$(RUN) -m benchmarks latency $(PLACES) $(CHOICE) $(ARGS)

peers: setup ## Compare with the plainest int8 export of each SDK (needs an idle machine)
	@$(RUN) -m benchmarks.peers $(NETWORK) $(PLACES) $(ARGS)

emulator: setup ## Start an emulated arm64 device behind adb (Debian, Ubuntu: needs qemu-system-arm)
	@$(RUN) -m android_harness emulator start $(if $(OUTPUT),--output '$(OUTPUT)') $(ARGS)

emulator-stop: setup ## Stop it
	@$(RUN) -m android_harness emulator stop $(if $(OUTPUT),--output '$(OUTPUT)') $(ARGS)

bench-android: setup ## Run on DEVICE, a phone's serial or an emulated device (the default), through adb
	@$(RUN) -m export --platform android $(NETWORK) $(PLACES) $(ANDROID_FILES)
	@$(RUN) -m benchmarks device --device '$(or $(DEVICE),emulator)' $(PLACES) $(FILES) \
		$(foreach r,$(RESOLUTION),--resolution $(r)) $(ARGS)

baseline: setup ## Accept what was measured as the baseline to compare with
	@$(RUN) -m benchmarks baseline $(if $(OUTPUT),--output '$(OUTPUT)') $(ARGS)

compare: setup ## Compare what was measured with the baselines, or two reports: ARGS="OLD NEW"
	@$(RUN) -m benchmarks compare $(if $(OUTPUT),--output '$(OUTPUT)') $(ARGS)

report: setup ## Print what has been measured and write artifacts/<platform>/report.html
	@$(RUN) -m benchmarks report $(if $(OUTPUT),--output '$(OUTPUT)') $(ARGS)

# A worker's libraries keep to one thread each; more would only wait for one another.
test test-full: export OMP_NUM_THREADS ?= 1

test: setup ## Run the tests a change can break (under 20 minutes)
	@$(PYTEST) $(ARGS)

test-full: setup ## Run those and the long groups
	@$(PYTEST) --full $(ARGS)

check: setup ## Lint, format, types and import rules
	@$(RUN) -m ruff check
	@$(RUN) -m ruff format --check
	@$(RUN) -m mypy
	@$(VENV)/bin/lint-imports --no-logo

clean: ## Remove exported files, results and caches; .venv and data stay
	rm -rf artifacts .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
