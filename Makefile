# Needs Python 3.11 or newer and make; everything else is set up by the first target that needs it.

PYTHON ?= python3
UV_VERSION := 0.13.9
UV := $(or $(shell command -v uv 2>/dev/null),.tools/bin/uv)
RUN := $(UV) run
# Tools share modules: tools/road.py, tools/candidates.py, tools/pages.py, tools/strip.py, tools/wan_tiny/.
TOOL := PYTHONPATH=tools $(RUN) python

# Only the Python that is here, never a downloaded one.
export UV_PYTHON_DOWNLOADS := never

# If this is set, every process compiles every library again: the tests alone take minutes longer.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo report browser test test-gpu check format bench-export bench-gpu grade table caches proof variants catalogue campaign same wheels test-isolated test-qtorch test-lpips test-comfyui clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(UV) ## Quantize wan-tiny-hard end to end, make videos with it and measure them
	$(TOOL) tools/demo/demo.py

# `make report PICTURES=docs/images` also takes the README's pictures of it, with Chromium.
report: $(UV) ## Compare wan-tiny-hard's quantizations with full precision: build/report/page
	$(TOOL) tools/report/make.py $(if $(PICTURES),--pictures $(PICTURES))

browser: ## Install Chromium, in which the report is tested, where there is none (needs apt-get and root)
	@command -v chromium || command -v chromium-browser || command -v google-chrome || \
		(apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-wqy-microhei)

# One thread a worker: two workers that each take every core are slower than either alone. Each gets half of the tests in
# their order, so that what a package's tests share is made by one of them and not by both.
test: $(UV) ## Run every test
	OMP_NUM_THREADS=1 $(RUN) pytest -n 2 --dist worksteal

test-gpu: $(UV) ## Run the tests that need a GPU
	$(RUN) pytest -m gpu

check: $(UV) ## Check format, lint, types and import rules
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) lint-imports --no-logo

format: $(UV) ## Format the code and mend what the linter can
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

bench-export: $(UV) ## Measure conversion beside cp and the plain way: docs/export_bench.md
	$(TOOL) tools/bench/export/measure.py

bench-gpu: $(UV) ## Measure every way to run Wan2.1-14B on this machine's GPU: docs/gpu_bench.md
	$(TOOL) tools/bench/gpu.py

grade: $(UV) ## Accept wan-tiny or not: do 200 of its clips show what their captions say?
	$(TOOL) tools/wan_tiny/grade.py

table: $(UV) ## Measure what each quantization costs wan-tiny and its hard twin: docs/wan_tiny_table.md
	$(TOOL) tools/wan_tiny/table.py

caches: $(UV) ## Measure what each cache costs and saves: docs/caching_cost.md
	$(TOOL) tools/wan_tiny/caches.py

proof: $(UV) ## Check that the algorithms meet their requirements: docs/algorithms.md
	$(TOOL) tools/proof/prove.py

variants: $(UV) ## Take a tiny model of every Wan through every stage: docs/variants.md
	$(TOOL) tools/variants/matrix.py

catalogue: $(UV) ## Break a checkpoint in every way and write down what verify says: docs/broken_checkpoints.md
	$(TOOL) tools/broken_checkpoints/page.py

# `CASES=10500` plays so many instead of MINUTES; `make campaign SEED=1 REPLAY=123 KEEP=folder` plays one of them again,
# shows all of it and keeps what it left.
campaign: $(UV) ## Attack every command with damage, kills and odd surroundings: docs/reliability.md
	$(TOOL) tools/campaign/attack.py --seed $(or $(SEED),0) $(if $(REPLAY),\
		--replay $(REPLAY) $(if $(KEEP),--keep $(KEEP)),\
		$(if $(CASES),--cases $(CASES),--minutes $(or $(MINUTES),10)) --page docs/reliability.md)

# `make same COMMIT=main EXPECT='*.second_moment'` allows for differences that are meant; KEEP=1 takes what the commit made
# in an earlier run.
same: $(UV) ## Make every artifact of the built-in models as COMMIT did, and compare bit for bit
	$(TOOL) tools/same_artifacts/check.py $(COMMIT) $(if $(KEEP),--keep) $(foreach it,$(EXPECT),--expect '$(it)')

wheels: $(UV) ## Build the seven wheels into dist/
	$(UV) build --all-packages --wheel --clear --out-dir dist

test-isolated: wheels ## Install each wheel alone and run its tests there
	$(RUN) python tools/ci/test_isolated.py

# The import comes first, so that a package that is not there fails here where the test would only be skipped.
test-qtorch: $(UV) ## Compare our rounding with QPyTorch itself (needs a C++ compiler, compiles for a minute)
	$(RUN) --with qtorch==0.3.0 --with ninja==1.13.2 sh -c \
		'python -c "import qtorch.quant" && pytest packages/vq-core/tests/numerics/test_rounding.py'

test-lpips: $(UV) ## Measure LPIPS on AlexNet's features with random weights (needs torchvision)
	$(RUN) --with torchvision==0.29.2 sh -c \
		'python -c "import torchvision" && pytest packages/vq-eval/tests/metrics'

test-comfyui: $(UV) ## Compare files for ComfyUI with what comfy-kitchen makes of them
	$(RUN) --with comfy-kitchen==0.2.40 sh -c \
		'python -c "import comfy_kitchen" && pytest packages/vq-export/tests/targets/test_comfyui_judged.py'

clean: ## Remove everything that was built or installed here
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.tools/bin/uv:
	$(PYTHON) -m venv .tools
	.tools/bin/pip install --quiet uv==$(UV_VERSION)
