# What a first-time user and a contributor run. Each target sets up what it needs; a second run is quick.

VENV ?= .venv
REPO ?= examples/repos/first-notebook/first.ipynb
LAUNCH_ARGS ?=
PYTEST_ARGS ?=
# Processes that run tests beside each other: as many as this machine has processors.
WORKERS ?= logical
PAIRS ?= 10

bin := $(VENV)/bin
# uv installs many times as fast as pip, and Ringbinder needs it in any case.
install := $(bin)/uv pip install --quiet --python $(bin)/python

# What uv.lock has, checked by hash, from the index that this machine is configured for; then Ringbinder itself, in its two parts.
# $(1): the groups and extras of pyproject.toml; $(2): more options.
define install_locked
	@$(bin)/uv export --quiet --frozen --offline --no-default-groups --no-emit-workspace --no-header --no-annotate \
	  $(1) --output-file $(VENV)/locked.txt
	@$(install) $(2) --require-hashes --requirement $(VENV)/locked.txt
	@$(install) $(2) --no-deps --build-constraints locks/build.txt --require-build-hashes --editable ./core --editable .
	@touch $@
endef

define find_pip
import ensurepip, pathlib, sysconfig
folders = [sysconfig.get_config_var("WHEEL_PKG_DIR") or "", ensurepip.__path__[0] + "/_bundled"]
print(*[wheel for folder in folders if folder for wheel in pathlib.Path(folder).glob("pip-*.whl")][:1])
endef
export find_pip

# Through the environment, since a link may hold characters that mean something to the shell.
export REPO

.PHONY: help launch test test-all test-cluster coverage coverage-report bench bench-compare lint lines locks audit docs clean
.DEFAULT_GOAL := help

help:
	@echo "make launch [REPO=link]       set up $(VENV) and start a notebook from a link, or from the bundled example"
	@echo "make test [PYTEST_ARGS=...]   set up and run the quick tests: 6 minutes on 2 processors"
	@echo "make test-all                 those and the slow ones: engine, hub, npm, every JupyterLab and page; half an hour"
	@echo "make test-cluster             the tests on Kubernetes: on the cluster in KUBECONFIG, or on one started here"
	@echo "make coverage                 make test with branch coverage: a table, and artifacts/coverage/html"
	@echo "make bench                    a simulated day, and Ringbinder beside its floors: figures; an hour"
	@echo "make bench-compare REV=...    measure this tree against a revision; PAIRS=10 of alternating runs, about 15 minutes"
	@echo "make lint                     set up and run the linters and the type checker"
	@echo "make locks                    the newest packages into uv.lock and the lists made from it, and images' digests"
	@echo "make audit                    ask for known vulnerabilities of the packages in uv.lock"
	@echo "make lines                    count the lines of Python in core, plugins and server"
	@echo "make docs                     set up and make the site of the documentation in docs/_build"
	@echo "make clean                    remove $(VENV) and what the tools have left"

launch: $(VENV)/.ready-launch
	@exec $(bin)/ringbinder launch $(LAUNCH_ARGS) "$$REPO"

test: $(VENV)/.ready-test
	$(bin)/pytest -m "not slow" -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

# What shares an engine, a hub, npm's packages or JupyterLab is in one group, which one worker runs.
test-all: $(VENV)/.ready-test
	$(bin)/pytest -n $(WORKERS) --dist loadgroup $(PYTEST_ARGS)

coverage: $(VENV)/.ready-test
	$(bin)/coverage erase
	COVERAGE_PROCESS_START=pyproject.toml $(MAKE) test
	$(MAKE) coverage-report

# Of a run of tests with COVERAGE_PROCESS_START; fails where core has less than it must have.
coverage-report:
	$(bin)/coverage combine --quiet
	$(bin)/coverage html --quiet
	$(bin)/coverage report --skip-covered --sort=cover
	@echo "branch coverage of core, in per cent:"
	@$(bin)/coverage report --include='core/ringbinder/*' --format=total --fail-under=95

# Without KUBECONFIG or TEST_KUBECONFIG: root on Debian 12, and the first time about 10 minutes to compile Kubernetes.
test-cluster: $(VENV)/.ready-test
	PYTHON=$(bin)/python tests/cluster/node/run.sh $(PYTEST_ARGS)

bench: $(VENV)/.ready-test
	$(bin)/python -m benchmarks.scale.run --check
	$(bin)/python -m benchmarks.wire.run
	$(bin)/python -m benchmarks.sinks.run
	$(bin)/python -m benchmarks.embedded.run
	$(bin)/python -m benchmarks.layers.run --rounds 1 --zipf 5

bench-compare: $(VENV)/.ready-test
	$(bin)/python -m benchmarks.compare --pairs $(PAIRS) "$(REV)"

lint: $(VENV)/.ready-dev
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/basedpyright
	@echo "$(bin)/basedpyright --verifytypes ringbinder"
	@PYTHONPATH=core $(bin)/basedpyright --verifytypes ringbinder --ignoreexternal >$(VENV)/verifytypes.txt \
	  || { grep -B 2 " error: " $(VENV)/verifytypes.txt; tail -n 4 $(VENV)/verifytypes.txt; exit 1; }
	$(bin)/lint-imports
	$(bin)/python docs/locks.py check
	$(bin)/python docs/words.py
	$(bin)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(bin)/check-jsonschema --builtin-schema vendor.github-actions examples/action/action.yml
	$(bin)/check-jsonschema --builtin-schema custom.github-workflows-require-timeout .github/workflows/*.yml
	$(bin)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml

lines:
	@for folders in core plugins/* server "core plugins server"; do \
	  printf '%7d  %s\n' "$$(find $$folders -name '*.py' -exec cat {} + | wc -l)" "$$folders"; \
	done

locks: $(VENV)/.ready-dev
	$(bin)/python docs/locks.py renew
	$(bin)/python docs/generate.py

audit: $(VENV)/.ready-dev
	$(bin)/python docs/locks.py audit

docs: $(VENV)/.ready-dev
	$(bin)/sphinx-build -q -W --keep-going -b html docs docs/_build

clean:
	rm -rf $(VENV) build dist artifacts docs/_build .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(bin)/python:
	@echo "Making the virtual environment $(VENV) (only once, some seconds)..."
	@found=; for python in "$${PYTHON:-python3}" python3 python3.14 python3.13 python3.12 python3.11 python; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "Ringbinder needs Python 3.11 or later, and none was found." >&2; \
	  echo "Install one, or say where it is: make PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	if ! { "$$found" -c 'import ensurepip' 2>/dev/null && "$$found" -m venv --without-pip $(VENV); }; then \
	  rm -rf $(VENV); \
	  echo "$$found cannot make a virtual environment; on Debian and Ubuntu install python3-venv." >&2; exit 1; \
	fi

# With a pip that is already there: installing one would take as long as all the rest. The wheel that Python brings
# runs without being installed, but slowly.
$(bin)/uv: | $(bin)/python
	@export PIP_DISABLE_PIP_VERSION_CHECK=1; \
	base=$$($(bin)/python -c 'import sys; print(sys._base_executable)'); \
	"$$base" -m pip --python $(bin)/python install --quiet --no-compile \
	  --require-hashes --requirement locks/uv.txt 2>/dev/null || \
	$(bin)/python "$$($(bin)/python -c "$$find_pip")/pip" install --quiet --no-compile \
	  --require-hashes --requirement locks/uv.txt

$(VENV)/.ready-launch: pyproject.toml core/pyproject.toml uv.lock | $(bin)/uv
	@echo "Installing Ringbinder into $(VENV)..."
	$(call install_locked,--group pip)

$(VENV)/.ready-test $(VENV)/.ready-dev: $(VENV)/.ready-%: pyproject.toml core/pyproject.toml uv.lock | $(bin)/uv
	@echo "Installing Ringbinder and the packages of group $* into $(VENV)..."
	$(call install_locked,--group pip --group $*,--compile-bytecode)
