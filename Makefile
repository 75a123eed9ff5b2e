# Two commands carry a newcomer: `make demo` and `make test`. Each first puts what it needs into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_TO_TEST := $(VENV)/.ready-to-test
BUDGET ?= 2min

# The pinned versions are in constraints.txt; the ranges in pyproject.toml are wide. A module is compiled when it is
# first imported, as most of torch never is, and kept, also where the environment asks Python to keep nothing.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

.PHONY: demo test test-slow test-gpu check lint docs bench bench-rivals bench-quality speedrun bench-data peak sanity baselines compare pretrained discriminator setup clean

setup: $(READY_TO_TEST)

# The package and what its reports draw with.
$(READY): pyproject.toml constraints.txt
	@echo "setting up $(VENV) (half a minute and the download)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) --editable '.[report]'
	@touch $@

# The rest: what tests, linters and extras need.
$(READY_TO_TEST): $(READY)
	@echo "adding what tests need to $(VENV) (a few minutes)"
	@$(INSTALL) --editable '.[dev]'
	@# its torchvision does not match every build of torch, and is not needed
	@$(INSTALL) --no-deps torch-fidelity
	@touch $@

# What the shipped generator draws, then a garment generator of two minutes on two cores, its scores and its report.
demo:
	@start=$$(date +%s); $(MAKE) --no-print-directory $(READY) || exit $$?; ready=$$(date +%s); \
	$(BIN)/modiste sample pretrained --count 100 --out runs/demo-pretrained.png || exit $$?; first=$$(date +%s); \
	echo "runs/demo-pretrained.png: ten images of each class by the generator in the package, after $$((first-start)) s"; \
	$(BIN)/modiste train swift --budget $(BUDGET) --out runs/demo || exit $$?; trained=$$(date +%s); \
	$(BIN)/modiste evaluate runs/demo || exit $$?; \
	$(BIN)/modiste report runs/demo > /dev/null || exit $$?; judged=$$(date +%s); \
	echo "environment $$((ready-start)) s, first picture $$((first-ready)) s, training $$((trained-first)) s," \
	"judging $$((judged-trained)) s: $$((judged-start)) s in all"; \
	echo "open runs/demo/report.html"

# Fast, without network or real data.
test: $(READY_TO_TEST)
	@$(BIN)/python -m pytest -q -n auto --dist worksteal

test-slow: $(READY_TO_TEST)
	@$(BIN)/python -m pytest -q -m slow

test-gpu: $(READY_TO_TEST)
	@$(BIN)/python -m pytest -q -m gpu

lint: $(READY_TO_TEST)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

check: lint test

# docs/cli.md and the tables of docs/recipes.md, from the code.
docs: $(READY)
	@$(BIN)/python docs/generate.py

bench: $(READY_TO_TEST)
	@$(BIN)/python benchmarks/bench.py

# The published recipes against Keras on TensorFlow, which gets an environment of its own, and a tutorial's PyTorch: eight
# minutes.
RIVALS := .venv-rivals
bench-rivals: $(READY) $(RIVALS)/.ready
	@$(BIN)/python benchmarks/bench_rivals.py

$(RIVALS)/.ready: benchmarks/rivals-requirements.txt
	@echo "setting up $(RIVALS) (a minute the first time)"
	@test -x $(RIVALS)/bin/python || $(PYTHON) -m venv $(RIVALS)
	@$(RIVALS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# How soon our recipes are as good as `bare-naich` after an hour: 80 minutes.
bench-quality: $(READY)
	@$(BIN)/python benchmarks/bench_quality.py

# Minutes of training on two cores to 100, 30, 12 and 6 times the distance of real images, and whether that is a record:
# `swift` and `hour` with three seeds, five hours of a machine that does nothing else.
speedrun: $(READY)
	@$(BIN)/python benchmarks/speedrun.py

# Reading 200,000 pictures and training from a set larger than memory: ten minutes, 8 GB of disk.
bench-data: $(READY_TO_TEST)
	@$(BIN)/python benchmarks/bench_data.py

# What share of the device's matrix peak and memory bandwidth the training steps reach, on the processor or a GPU: five
# minutes. `benchmarks/profile_step.py` says where the rest goes.
peak: $(READY)
	@$(BIN)/python benchmarks/peak.py

# Known damage to real images, through every score: the table and picture of docs/validation.md.
sanity: $(READY)
	@$(BIN)/python benchmarks/sanity.py --out docs

# The baselines that ship, of every published set that is at hand: five minutes each; after a change of a score.
baselines: $(READY)
	@$(BIN)/python benchmarks/baselines.py

# The published systems and `swift` after the same training time, in one table.
EACH ?= 3min
PUBLISHED := diaz-a noronha roh dense-sigmoid bare-naich
compare: $(READY)
	@for recipe in $(PUBLISHED) swift; do \
	$(BIN)/modiste train $$recipe --budget $(EACH) --out runs/compare/$$recipe || exit $$?; done
	@$(BIN)/modiste evaluate $(PUBLISHED:%=runs/compare/%) runs/compare/swift --markdown

# The generator that ships: RUN's weights in float16, measured as they are kept, with their model card.
CHECKPOINT ?= last
SHIPPED := src/modiste/assets/pretrained
pretrained: $(READY)
	@test -n "$(RUN)" || { echo "say which run: make pretrained RUN=runs/NAME [CHECKPOINT=best]" >&2; exit 2; }
	@$(BIN)/modiste export $(RUN) --checkpoint $(CHECKPOINT) --pretrained --out $(SHIPPED)
	@$(BIN)/modiste evaluate $(SHIPPED)
	@$(BIN)/modiste directions $(SHIPPED) && rm $(SHIPPED)/directions.png
	@$(BIN)/modiste export $(SHIPPED) --pretrained

# Its discriminator, which was not kept: that of a run of swift, trained on against it; ten minutes.
discriminator: $(READY)
	@test -n "$(RUN)" || { echo "say which run of swift it begins with: make discriminator RUN=runs/swift" >&2; exit 2; }
	@$(BIN)/python benchmarks/discriminator.py $(RUN)
	@$(BIN)/modiste export $(SHIPPED) --pretrained

clean:
	rm -rf $(VENV) $(RIVALS) .pytest_cache .mypy_cache .ruff_cache
