# The commands of this project. `make run` and `make test` need python3.11 to 3.13 with venv and pip, and a package
# registry that pip reaches; everything else they fetch into .venv themselves. Paths here are relative, so that a
# checkout may stand anywhere, spaces in its path included.

PYTHON ?=
ARGS ?=
bin := .venv/bin
two_files_at_a_time := -n 2 --dist loadfile --no-loadscope-reorder
uv_options := --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test fast soak lint bench lock clean run-environment dev-environment

help:  ## list these commands
	@sed -n 's/^\([a-z]*\):.*  ## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-6s %s\n' "$$name" "$$text"; done

run: run-environment  ## retrain on real MNIST; options: make run ARGS="--preset smoke"
	@$(bin)/stepwise run $(ARGS)

test: dev-environment  ## run all tests, two files at a time; what was skipped stands in the last lines
	@$(bin)/python -m pytest $(two_files_at_a_time) $(ARGS)

fast: dev-environment  ## run the fast tests only
	@$(bin)/python -m pytest $(two_files_at_a_time) -m 'not slow and not soak' $(ARGS)

soak: dev-environment  ## full disks, servers that go, 100 kills at random moments; fewer: STEPWISE_KILLS=10 make soak
	@STEPWISE_KILLS="$${STEPWISE_KILLS:-100}" $(bin)/python -m pytest -m soak -s \
		tests/flows/test_full_disk.py tests/flows/test_up.py tests/flows/test_kills.py tests/flows/test_together.py \
		tests/flows/test_postgres.py tests/flows/test_study.py tests/flows/test_pages.py \
		tests/flows/test_command.py tests/flows/test_warm_start.py tests/flows/test_rerun.py \
		tests/tasks/test_engine_over_steps.py tests/tasks/test_resume.py tests/benchmarks $(ARGS)

lint: dev-environment  ## check style, format, types and the import layers
	@status=0; \
	$(bin)/ruff check . || status=1; \
	$(bin)/ruff format --check . || status=1; \
	$(bin)/mypy || status=1; \
	$(bin)/lint-imports || status=1; \
	exit $$status

bench: dev-environment  ## measure against peers, on a quiet machine; one alone: make bench ARGS=training
	@$(bin)/python -m benchmarks $(ARGS)

lock:  ## renew the locks after a change of dependencies (needs uv); newer versions: make lock ARGS=--upgrade
	@command -v uv >/dev/null || { echo 'make lock needs uv, which is not on PATH: pip install uv' >&2; exit 1; }
	@uv pip compile $(uv_options) $(ARGS) -o requirements.lock pyproject.toml
	@uv pip compile $(uv_options) $(ARGS) -o requirements-dev.lock --group dev -c requirements.lock pyproject.toml

clean:  ## remove .venv and the tools' caches; what runs have left in artifacts/ stays
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './artifacts/*' -prune -exec rm -rf {} +

run-environment:
	@PYTHON='$(PYTHON)' sh .ci/environment requirements.lock

dev-environment:
	@PYTHON='$(PYTHON)' sh .ci/environment requirements-dev.lock
