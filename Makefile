# Every target does its own set-up. ARGS are handed to the command: make demo ARGS="--minutes 1 --headless --json"
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test test-long bench chaos chaos-long lint format console clean

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@echo "hexrun: installing the locked packages into $(VENV) (once; about a minute)" >&2
	@$(PYTHON) -c "import ensurepip" 2>/dev/null || scripts/debian-packages python3-venv
	@test -x $(RUN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock >&2
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . >&2
	@echo "hexrun: compiling its kernels (once; half a minute)" >&2
	@$(RUN)/python -m dispatch.warm
	@touch $@

demo: install
	@$(RUN)/hexrun demo $(ARGS)

lint: install
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/lint-imports

# Most tests wait for servers: three at a time. Those of a whole live system run by themselves.
test: lint
	@scripts/debian-packages chromium fonts-noto-cjk nginx gcc libc6-dev faketime
	@command -v node >/dev/null || scripts/debian-packages nodejs
	$(RUN)/python -m pytest -m "not long" -n 3 --dist loadfile --ignore tests/chaos --ignore tests/e2e $(ARGS)
	$(RUN)/python -m pytest -m "not long" tests/chaos tests/e2e $(ARGS)

test-long: install
	@scripts/debian-packages chromium fonts-noto-cjk nginx gcc libc6-dev faketime
	@command -v node >/dev/null || scripts/debian-packages nodejs
	$(RUN)/python -m pytest -m long --timeout 3600 $(ARGS)

bench: install
	$(RUN)/python -m pytest bench --benchmark-only $(ARGS)
	$(RUN)/python -m bench speed round --json
	$(RUN)/python -m bench speed core --json

chaos: install
	@command -v gcc >/dev/null || scripts/debian-packages gcc libc6-dev
	@$(RUN)/python -m bench chaos $(ARGS)

# Prints a row of docs/reliability.md for each of three seeds; about half an hour each.
chaos-long: install
	@command -v gcc >/dev/null || scripts/debian-packages gcc libc6-dev
	@for seed in 1 2 3; do $(RUN)/python -m bench chaos --seed $$seed --markdown $(ARGS) || exit; done

format: install
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

console:
	cd api/console && npm ci && npm run build

clean:
	rm -rf $(VENV) .demo .mypy_cache .ruff_cache .hypothesis .benchmarks build *.egg-info
