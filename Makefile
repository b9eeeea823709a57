# Each target sets up .venv by itself, with the versions pinned in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo curate-demo train-demo circle-demo report-demo test test-lowest test-newest lock-lowest gpu-visit-dry visit-wheels test-slurm bench quality faults clean

demo: .venv/installed
	$(BIN)/datatrove-quality demo --overwrite

# Cleans, deduplicates, scores and filters the demo with planted duplicates and garbage, and looks whether all is found.
curate-demo: .venv/with-curate
	rm -rf curate-demo
	$(BIN)/python examples/plant_garbage.py curate-demo/input
	$(BIN)/datatrove-quality curate curate-demo/input --output curate-demo/output \
		--model examples/demo-classifier --min-score 3.5
	$(BIN)/python examples/plant_garbage.py --check curate-demo/output

# Fine-tunes the demo classifier on most of the demo conversations, and judges it by the others.
train-demo: .venv/installed
	rm -rf demo-training && mkdir demo-training
	head -n 480 examples/conversations.jsonl > demo-training/annotated.jsonl
	tail -n +481 examples/conversations.jsonl > demo-training/unseen.jsonl
	$(BIN)/datatrove-quality train demo-training/annotated.jsonl --labels label \
		--model examples/demo-classifier --output demo-training/classifier \
		--epochs 4 --batch-size 32 --learning-rate 1e-4 --warmup-steps 5 --holdout 0.2
	$(BIN)/datatrove-quality evaluate demo-training/unseen.jsonl --labels label \
		--model demo-training/classifier --output demo-training/evaluation

# From raw rows to a classifier of one's own and what it keeps: a toy judge, by plain rules, gives the labels.
circle-demo: .venv/installed
	rm -rf circle-demo && mkdir circle-demo
	head -n 480 examples/conversations.jsonl > circle-demo/conversations.jsonl
	tail -n +481 examples/conversations.jsonl > circle-demo/unseen.jsonl
	$(BIN)/python examples/toy_judge.py $(BIN)/datatrove-quality annotate circle-demo/conversations.jsonl \
		--output circle-demo/annotated --rubric instruct-quality-pt --model toy-judge --endpoint {endpoint}
	$(BIN)/datatrove-quality agree circle-demo/annotated --labels label --with judge_level --output circle-demo/agreement
	$(BIN)/datatrove-quality train circle-demo/annotated --labels judge_score --model examples/demo-classifier \
		--output circle-demo/classifier --epochs 2 --batch-size 32 --learning-rate 1e-4 --warmup-steps 5 --holdout 0.2
	$(BIN)/datatrove-quality evaluate circle-demo/unseen.jsonl --labels label --model circle-demo/classifier \
		--output circle-demo/evaluation
	$(BIN)/datatrove-quality filter circle-demo/unseen.jsonl --model circle-demo/classifier --output circle-demo/scored
	$(BIN)/datatrove-quality choose-threshold circle-demo/scored --labels label --level 4 --min-precision 0.9
	$(BIN)/datatrove-quality filter circle-demo/scored --output circle-demo/filtered --scores-from-columns --min-score 3.3
	$(BIN)/datatrove-quality report circle-demo/filtered --output circle-demo/report

# A page about the demo: demo-output/report/report.html
report-demo: .venv/installed
	test -d demo-output/kept || $(BIN)/datatrove-quality demo
	$(BIN)/datatrove-quality report demo-output --group-by source --output demo-output/report

# The tests of the GPU have it to themselves.
test: .venv/with-curate .venv/with-ray
	CUDA_VISIBLE_DEVICES= $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal --ignore tests/gpu
	$(BIN)/python -m pytest tests/gpu

# The same with the lowest versions that pyproject.toml allows, and with the newest there are; each in its own .venv.
test-lowest: .venv-lowest/installed
	CUDA_VISIBLE_DEVICES= .venv-lowest/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal --ignore tests/gpu

test-newest: .venv-newest/installed
	CUDA_VISIBLE_DEVICES= .venv-newest/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal --ignore tests/gpu

# Writes what the first of them installs. After a change of pyproject.toml's ranges; needs uv.
lock-lowest:
	uv pip compile --upgrade --universal --python-version 3.11 --resolution lowest-direct --no-build --no-annotate \
		--no-header --extra dev --extra train --extra plots --output-file constraints-lowest.txt pyproject.toml
	sed -i "1i # The lowest versions that pyproject.toml allows, for make test-lowest; written by make $@." constraints-lowest.txt

# On a SLURM of its own: needs root and apt-get install slurmctld slurmd slurm-client munge; else they are skipped.
test-slurm: .venv/with-curate
	$(BIN)/python -m pytest -m slurm tests/slurm

# The script for a GPU machine, on the CPU with the shape tiny and with the versions of a CUDA image that it was made for,
# so that only the GPU is new there. The wheels are those that such an image lacks: loguru, orjson and this package are enough
# for all but the pipeline, which needs DataTrove. For an image's Python: make visit-wheels VISIT_PYTHON=3.12
VISIT_PYTHON ?= $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VISIT_WHEELS := loguru orjson datatrove dill multiprocess humanize zstandard

gpu-visit-dry: .venv-visit/installed visit-wheels
	PYTHON=$(CURDIR)/.venv-visit/bin/python benchmarks/gpu_visit.sh --device cpu --shape tiny \
		--wheels .visit-wheels --results .gpu-visit-dry

visit-wheels: .venv-visit/installed
	rm -rf .visit-wheels
	.venv-visit/bin/pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --implementation cp \
		--python-version $(VISIT_PYTHON) $(foreach n,28 27 17,--platform manylinux_2_$(n)_x86_64) \
		--platform manylinux2014_x86_64 --dest .visit-wheels --constraint constraints.txt $(VISIT_WHEELS)
	.venv-visit/bin/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir .visit-wheels .

.venv-visit/installed:
	$(PYTHON) -m venv .venv-visit
	.venv-visit/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.17.0 \
		huggingface_hub==1.33.0 sentence-transformers==6.0.1 accelerate matplotlib pytest pyarrow regex jinja2 tqdm
	touch $@

# Our speed beside the alternatives' and the matrix products', then what feeds the model; under 10 minutes on two cores.
bench: .venv/installed
	$(BIN)/python benchmarks/throughput.py --device cpu --shape small --mix sft
	$(BIN)/python benchmarks/throughput.py --device cpu --host

# The long runs of tests/faults, and those on SLURM, which counts time limits in minutes: about half an hour.
faults: export PYTHONPATH = tests:tests/faults:examples
faults: .venv/with-curate
	$(BIN)/python tests/faults/kill_and_resume.py --signal KILL --kills 200
	$(BIN)/python tests/faults/kill_and_resume.py --signal TERM --kills 200
	$(BIN)/python tests/faults/kill_and_resume.py --signal USR1 --kills 200
	$(BIN)/python tests/faults/hostile.py --rows 100000
	$(BIN)/python tests/faults/inject.py --seeds 300
	$(BIN)/python tests/faults/broken_certificates.py --trials 1000
	$(BIN)/python tests/faults/kill_annotation.py --kills 50
	$(BIN)/python tests/faults/kill_curation.py --kills 60
	$(BIN)/python tests/faults/kill_curation.py --kills 60 --copies 2
	$(BIN)/python -m pytest -m slurm_long -o faulthandler_timeout=0 tests/slurm

quality: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,train,plots]'
	touch $@

.venv-lowest/installed: constraints-lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --disable-pip-version-check --constraint $< --editable '.[dev,train,plots]'
	touch $@

.venv-newest/installed: pyproject.toml
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/pip install --quiet --disable-pip-version-check --upgrade --editable '.[dev,train,plots]'
	touch $@

# Where an extra cannot be had, as Python has versions for which it has no wheels, the tests that need it are skipped.
.venv/with-%: .venv/installed
	-$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$*]' && touch $@

clean:
	rm -rf .venv .venv-* .visit-wheels .gpu-visit-dry demo-output demo-training curate-demo circle-demo
