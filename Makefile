# Everything that a reader or a developer runs; `make` alone lists it.

PYTHON = python3
LAB_FLAGS =
NOTEBOOKS =

# By module, not by .venv/bin/NAME: that way a renamed folder still works.
RUN = .venv/bin/python -m
# Two workers, each with one thread: with more they slow each other down.
PYTEST = OMP_NUM_THREADS=1 $(RUN) pytest -n 2 --dist loadfile
NEED = install Python 3.11 or newer, or name one: make lab PYTHON=python3.12

# Let Python keep what it compiles, else each import of torch takes ten seconds.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help lab test test-fast lint notebooks checkpoint bench results lock

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

# With PATH, so that `fcn` is there in a terminal of JupyterLab.
lab: .venv/ready  ## open the course in JupyterLab
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(RUN) jupyterlab --ServerApp.root_dir=. \
	  --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb \
	  $$(test $$(id -u) != 0 || echo --allow-root) $(LAB_FLAGS)

test: lint  ## check everything, every notebook and solution included
	$(PYTEST) tests
	$(PYTEST) --nbval notebooks --nbval-current-env --nbval-cell-timeout 600 \
	  --nbval-sanitize-with tests/nbval_sanitize.cfg

test-fast: lint  ## check what takes about a minute
	$(PYTEST) tests -m "not slow"

lint: .venv/ready  ## check style and types
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy

notebooks: .venv/ready  ## run notebooks again and store what they show (NOTEBOOKS=...)
	$(RUN) fcnlib.course.notebooks $(NOTEBOOKS)

checkpoint: .venv/ready  ## train a small FCN-8s on the scenes, into data/segmenter
	$(RUN) fcnlib.course.segmenter

bench: .venv/ready  ## compare fcnlib with its peers
	.venv/bin/python benchmarks/reader.py
	.venv/bin/python benchmarks/transposed_conv.py
	.venv/bin/python benchmarks/models.py
	.venv/bin/python benchmarks/training.py

results: .venv/ready  ## train every row of the README's results again: a night; needs VOC
	.venv/bin/python benchmarks/stages.py --straight --stages 15 15 15 --crop 160
	.venv/bin/python benchmarks/variants.py
	.venv/bin/python benchmarks/voc.py
	.venv/bin/python benchmarks/voc.py "animals, 30 epochs" --seeds 1 2

lock: .venv/ready  ## write requirements.lock again after a change in pyproject.toml
	$(RUN) uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	  --python-version 3.11 --all-extras --group setup \
	  --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

# The stamp is written last: a setup that broke off starts again from an empty .venv.
# uv comes from the lock too, and installs the rest several times faster than pip.
# The imports at the end show that the parts fit together, and compile them.
.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) --version >/dev/null 2>&1 || \
	  { echo "$(PYTHON) does not run here: $(NEED)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
	  "$(PYTHON) is Python %d.%d, which is too old: $(NEED)" % v[:2])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) lacks venv: on Debian or Ubuntu, apt install python3-venv" >&2; exit 1; }
	@echo "Setting up .venv (once; on Linux 3 GB to download, 6 GB on disk) ..."
	@test -e $@ || $(PYTHON) -m venv --clear .venv
	@rm -f $@
	@sed -n '/^uv==/,/# via/p' requirements.lock | $(RUN) pip install -q -r /dev/stdin
	@$(RUN) uv pip sync --python .venv --require-hashes requirements.lock
	@$(RUN) uv pip install --python .venv -q --no-deps --no-build-isolation -e .
	@.venv/bin/python -c 'import d2l.torch, fcnlib, jupyterlab, torchvision'
	@touch $@
