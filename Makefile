# The commands of this project; each sets itself up first.
.PHONY: install demo test coverage torture check format notebook
install:
	@bash install.sh

demo: install           ## generate data, fine-tune 3 folds, score, ensemble, write and validate a submission
	@.venv/bin/mcvqa demo

test: install           ## every test
	@.venv/bin/python -m pytest -n 2 --dist loadfile

coverage: install       ## the rooms that must lose nothing, with every branch tried
	@.venv/bin/python -m pytest -n 2 --dist loadfile tests/data/test_questions.py tests/data/test_images.py tests/report/test_submission.py \
		tests/training/test_checkpoint.py tests/training/test_resume.py --cov=mcvqa.training.checkpoint --cov=mcvqa.data.questions \
		--cov=mcvqa.data.images --cov=mcvqa.report.submission --cov-branch --cov-report=term-missing --cov-fail-under=100

torture: install        ## real kills, deadlines and damaged inputs; KILLS=20 for fewer
	@.venv/bin/python -m tests.torture

check: install          ## lint, types, structure of the code, notebooks as the code makes them
	@.venv/bin/ruff check src tests benchmarks tools
	@.venv/bin/mypy --config-file pyproject.toml
	@.venv/bin/python tools/build_notebook.py --check
	@.venv/bin/python -m pytest tests/test_structure.py

notebook: install       ## make the notebooks from the package and their stories
	@.venv/bin/python tools/build_notebook.py

format: install         ## sort imports and mend what ruff can mend
	@.venv/bin/ruff check --fix src tests benchmarks tools
