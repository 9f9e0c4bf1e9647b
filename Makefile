# make reproduce   everything from a fresh machine: environment, stand-in data, all notebooks, then the main rows of
#                  Table 1 of cars on real photographs, ten seeds, trained here and held against the committed ones
# make test        environment, then everything that CI runs
# Narrow with PAPER=quadruplet_cars196 PROFILE=smoke SLOTS=2. Needs git, make and Python 3.11, 3.12 or 3.13.
# TORCH=cpu installs torch's CPU build, without gigabytes of CUDA; cu126, rocm and others are other builds.

PROFILE ?= smoke
SLOTS ?= 2
PAPER ?= $(filter-out index,$(patsubst notebooks/%.ipynb,%,$(wildcard notebooks/*.ipynb)))
DATA ?= $(or $(PAPERS_DATA),data)
TORCH ?=

FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c "$(FITS)" >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
MADE := cars196 market1501 dukemtmc msmt17_v1 pedestrians_warmup pedestrians_many cifar10 sysu30k \
	coco2017 voc0712 faces_emore
# A dead worker is a failure at once: pytest would start another one, and hang where that dies as well.
PYTEST := $(PY) -m pytest --max-worker-restart=0

.PHONY: help reproduce again test lint types unit smoke processors nbval browser-test fuzz mutants faults \
	index lab site bench gpu-check data lock clean

help:
	@echo "make reproduce      environment, all notebooks at smoke, then the main rows of cars, trained here"
	@echo "make test           environment, then everything that CI runs"
	@echo "make data           environment and stand-in data, and no more"
	@echo "make lab            JupyterLab, on the index of the chapters"
	@echo "make site           the site, into build/site/html; no network is needed"
	@echo "make browser-test   site and chapters in chromium"
	@echo "make bench          speed beside public peers"
	@echo "make gpu-check      eight minutes on one GPU"
	@echo "make faults         kills, lost nodes, full disks: nothing lost, nothing doubled"
	@echo "make fuzz, make mutants, make processors, make index, make lock, make clean: see the Makefile"
	@echo "Narrow with PAPER=nar PROFILE=smoke SLOTS=2; TORCH=cpu installs torch without CUDA."

# One paper that fails does not keep the others from being made.
reproduce: $(READY) data
	@failed=; for paper in $(PAPER); do \
		$(PY) -m papers_lib run $$paper -p profile $(PROFILE) -p slots $(SLOTS) || failed="$$failed $$paper"; \
	done; echo; $(PY) -m papers_lib coverage; \
	test -z "$$failed" || { echo "error: not reproduced:$$failed; the lines above say why" >&2; exit 1; }
	@case " $(PAPER) " in *" quadruplet_cars196 "*) $(MAKE) --no-print-directory again;; esac

# Rows of `frozen` once more, with an empty ledger, so that nothing is taken from the committed one.
AGAIN := build/again
SWEEPS ?= core
again: $(READY)
	@rm -rf $(AGAIN) && mkdir -p $(AGAIN)
	PAPERS_LEDGER=$(AGAIN) PAPERS_FIGURES=$(AGAIN) $(PY) -m papers_lib run quadruplet_cars196 \
		-p profile frozen -p train true -p sweeps $(SWEEPS) -p slots $(SLOTS)
	$(PY) -m papers_lib compare quadruplet_cars196 $(AGAIN)

test: lint types site unit smoke processors nbval

lint: $(READY)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

types: $(READY)
	$(VENV)/bin/mypy

unit: $(READY)
	OMP_NUM_THREADS=1 $(PYTEST) -n 2 --dist loadfile --ignore tests/browser

# Every notebook at smoke, then the committed outputs against a fresh run; both read one run store,
# so that each smoke run trains once.
smoke: $(READY) data
	@for paper in $(PAPER); do $(PY) -m papers_lib run $$paper -p profile smoke -p slots $(SLOTS) || exit; done

# Kernels differ between processors: the arithmetic, and one training of each paper, as an older one computes it.
processors: $(READY) data
	@for isa in AVX2 SSE41; do \
		export ONEDNN_MAX_CPU_ISA=$$isa OMP_NUM_THREADS=1; echo "as a processor with $$isa:"; \
		case $$isa in AVX2) export ATEN_CPU_CAPABILITY=avx2;; *) export ATEN_CPU_CAPABILITY=default;; esac; \
		$(PYTEST) tests/test_numerics.py -k "right or projection" || exit; \
		for paper in $(PAPER); do PAPERS_RUNS=$(VENV)/runs-$$isa \
			$(PY) -m papers_lib sweep $$paper -p profile smoke --limit 2 --slots $(SLOTS) || exit; \
		done; rm -rf $(VENV)/runs-$$isa; \
	done

nbval: $(READY) data
	$(PYTEST) notebooks --nbval --nbval-current-env --nbval-sanitize-with=tests/nbval.cfg \
		--nbval-cell-timeout=120 --timeout=150 -p no:cacheprovider

# Minutes in a real browser, and so apart from `make test`.
CHROMIUM := { command -v chromium || command -v chromium-browser; } >/dev/null
browser-test: site data
	@$(CHROMIUM) || { test "$$(id -u)" = 0 && \
		apt-get update --quiet=2 && apt-get install --quiet=2 --yes chromium; } || \
		{ echo "error: chromium is missing: sudo apt-get install chromium" >&2; exit 2; }
	$(PYTEST) -n 0 tests/browser

# Thousands of damaged files for every reader; `make unit` tries a few.
fuzz: $(READY)
	FUZZ=3000 OMP_NUM_THREADS=1 $(PYTEST) -n 2 --timeout=3600 $$(grep -rl "import.* fuzz" tests --include="*.py")

# Small faults put into the code one by one, of which the tests must notice nine in ten. Narrow with
# FILES=papers_lib/files.py; MOST=1000 tries all of a file's. cosmic-ray stays outside the environment.
FILES ?= $(shell git ls-files 'papers_lib/*.py' | grep -v '__\|/study')
MOST ?= 20
mutants: $(READY)
	@test -f build/mutants/.ready || { $(PIP) --require-hashes --no-deps --upgrade --target build/mutants \
		--requirement requirements-mutants.txt && touch build/mutants/.ready; }
	PYTHONPATH=build/mutants $(PY) tests/mutants.py --most $(MOST) $(FILES)

# Kills, lost nodes, full disks and the like, at random moments: what they lose or compute twice. Hours; narrow with
# FAULTS="--times 2 --subjects toy,nar 'full disk'". A handful of each stands in `make unit`.
faults: $(READY) data
	OMP_NUM_THREADS=1 $(PY) tests/faults.py $(FAULTS)

data: $(READY)
	@for name in $(MADE); do test -f "$(DATA)/standin/$$name/STANDIN.json" || \
		$(PY) -m data_prep make $$name "$(DATA)/standin/$$name" --size smoke || exit; done

lab: $(READY) data
	$(VENV)/bin/jupyter lab --ServerApp.root_dir=. notebooks/index.ipynb

# After new rows: the index's findings come from the ledger.
index: $(READY)
	$(VENV)/bin/jupyter nbconvert --to notebook --execute --inplace notebooks/index.ipynb
	$(PY) -c "from papers_lib.runs import notebook; notebook.strip('notebooks/index.ipynb')"

site: $(READY)
	$(PY) -m docs.build build/site
	@echo "the site: build/site/html/index.html"

bench: $(READY)
	$(PY) -m benchmarks.selection
	$(PY) -m benchmarks.retrieval
	$(PY) -m benchmarks.samplers
	$(PY) -m benchmarks.pseudo_labels
	$(PY) -m benchmarks.proxy_loss
	$(PY) -m benchmarks.reid_ranking
	$(PY) -m benchmarks.triplet_loss
	$(PY) -m benchmarks.augmentation
	$(PY) -m benchmarks.ssl_epoch
	$(PY) -m benchmarks.large_gallery
	$(PY) -m benchmarks.enumeration
	$(PY) -m benchmarks.verification
	$(PY) -m benchmarks.cifar_epoch
	$(PY) -m benchmarks.nar_bench
	$(PY) -m benchmarks.loading

# Eight minutes on one card: are the numbers right, how fast is it, do the profiles for one GPU fit. Its pilots want
# cifar10, cars196_half and a camera network in data/, see docs/cluster.md. On a machine whose torch is its own:
# python -m benchmarks.gpu_check
gpu-check: $(READY)
	$(PY) -m benchmarks.gpu_check

$(READY): requirements.lock requirements-torch.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 on the path; install one" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes --no-deps --requirement requirements.lock
ifeq ($(TORCH),)
	$(PIP) --requirement requirements-torch.txt
else
	$(VENV)/bin/uv pip install --quiet --python $(PY) --torch-backend $(TORCH) --requirement requirements-torch.txt
endif
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# After a change in pyproject.toml. What torch's build decides is left to torch.
LEFT := torch torchvision triton cuda-bindings cuda-pathfinder cuda-toolkit $(addprefix nvidia-,cublas cuda-cccl \
	cuda-cupti cuda-nvrtc cuda-runtime cudnn-cu13 cufft cufile cusolver cusparse cusparselt-cu13 nccl-cu13 \
	nvjitlink nvshmem-cu13 nvtx)
lock: $(READY)
	$(VENV)/bin/uv pip compile pyproject.toml --quiet --extra dev --extra bench --extra cluster --extra detection --extra site --universal \
		--python-version 3.11 --no-annotate --no-header --generate-hashes \
		$(addprefix --no-emit-package ,$(LEFT)) --output-file requirements.lock
	echo cosmic-ray | $(VENV)/bin/uv pip compile - --quiet --universal --python-version 3.11 --no-annotate --no-header \
		--generate-hashes --constraint requirements.lock --output-file requirements-mutants.txt

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis figures/*/smoke
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
