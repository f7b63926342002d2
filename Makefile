# The commands of this project; each sets itself up first.
.PHONY: install demo test nightly properties coverage torture platforms families check docs format notebook imports lock
FAMILIES ?= /tmp/mcvqa-families
install:
	@bash install.sh

demo: install           ## generate data, fine-tune 3 folds, score, ensemble, write and validate a submission
	@.venv/bin/mcvqa demo

test: install           ## every test but the long proofs; ORDER_SEED=7 for a random order
	@.venv/bin/python -m pytest -n 2 --dist worksteal

nightly: install        ## the long proofs, with a Ray cluster and a browser where there is one
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-nightly.txt
	@.venv/bin/python -m pytest -n 2 --dist worksteal -m nightly

properties: install     ## each property with more inputs
	@EXAMPLES=500 .venv/bin/python -m pytest -n 2 --dist load -m hypothesis

coverage: install       ## the rooms that must lose nothing, with every branch tried
	@.venv/bin/python -m pytest -n 2 --dist loadfile -m '' tests/data/test_questions.py tests/data/test_images.py tests/report/test_submission.py \
		tests/training/test_checkpoint.py tests/training/test_resume.py --cov=mcvqa.training.checkpoint --cov=mcvqa.data.questions \
		--cov=mcvqa.data.images --cov=mcvqa.report.submission --cov-branch --cov-report=term-missing --cov-fail-under=100

torture: install        ## real kills, deadlines and damaged inputs; KILLS=20 for fewer
	@.venv/bin/python -m tests.torture
	@.venv/bin/python -m pytest -n 2 --dist worksteal -m torture tests

platforms: install      ## the suite with Colab's versions, the lowest of our ranges, and the lock on each Python
	@.venv/bin/python tools/platforms.py

families: install       ## a small model of every family trained and scored, with torchvision, in /tmp; writes docs/models.md
	@.venv/bin/python -m venv $(FAMILIES)
	@$(FAMILIES)/bin/pip install -q -e '.[gpu,vlm]' pytest hypothesis
	@$(FAMILIES)/bin/python tools/families.py

check: install          ## lint, types, structure of the code, notebooks and pictures of the imports as the code makes them
	@.venv/bin/ruff check src tests benchmarks tools
	@.venv/bin/mypy --config-file pyproject.toml
	@.venv/bin/python tools/build_notebook.py --check
	@.venv/bin/python tools/imports.py --check
	@.venv/bin/python tools/reference.py --check
	@.venv/bin/python -m pytest tests/test_structure.py

docs: install           ## the pages of settings and commands from the code, the figures, and all pages into build/docs, offline
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	@.venv/bin/python tools/reference.py
	@.venv/bin/python tools/figures.py
	@.venv/bin/python -m sphinx -W -n --keep-going -q -c docs . build/docs
	@echo "build/docs/index.html"

notebook: install       ## make the notebooks from the package and their stories
	@.venv/bin/python tools/build_notebook.py

imports: install        ## draw the imports of the package into CONTRIBUTING.md
	@.venv/bin/python tools/imports.py

lock: install           ## requirements.txt from the ranges of pyproject.toml; keeps the versions that are there
	@.venv/bin/python tools/lock.py

format: install         ## sort imports and mend what ruff can mend
	@.venv/bin/ruff check --fix src tests benchmarks tools
