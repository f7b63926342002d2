# The commands of this project; each sets itself up first.
.PHONY: install demo test check format
install:
	@bash install.sh

demo: install           ## generate data, fine-tune 3 folds, score, ensemble, write and validate a submission
	@.venv/bin/mcvqa demo

test: install           ## every test
	@.venv/bin/python -m pytest -n 2 --dist loadfile

check: install          ## lint, types, structure of the code
	@.venv/bin/ruff check src tests benchmarks tools
	@.venv/bin/mypy --config-file pyproject.toml
	@.venv/bin/python -m pytest tests/test_structure.py

format: install         ## sort imports and mend what ruff can mend
	@.venv/bin/ruff check --fix src tests benchmarks tools
