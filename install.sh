#!/usr/bin/env bash
# Installs mcvqa and what it needs into .venv. Quick when nothing changed since the last time.
#   bash install.sh          Python >= 3.10 is all it asks for; PYTHON=python3.12 picks another one.
# A torch that already works here (Kaggle, Colab, your own GPU machine) is used as it is, never replaced. Without one,
# Python 3.11 to 3.13 get the tested versions of requirements.txt, other Pythons what the ranges of pyproject.toml allow.
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-python3}

say() { printf 'install: %s\n' "$*"; }

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
  say "Python 3.10 or newer is needed; '$python' is $("$python" --version 2>&1 || true). Set PYTHON=/path/to/python3.11." >&2
  exit 1
fi
# An activated environment, .venv itself for example, is not built upon: the new one would see the packages of the Python
# below it, not its own.
python=$("$python" -c 'import sys; print(sys.executable if sys.prefix == sys.base_prefix else sys._base_executable)')
torch=$("$python" -c 'import torch; torch.ones(2).sum(); print(torch.__version__.split("+")[0])' 2>/dev/null || true)

state=$(cat install.sh pyproject.toml requirements.txt; "$python" --version; pwd; echo "torch=$torch")
stamp=.venv/.installed
if [ -x .venv/bin/mcvqa ] && [ -f "$stamp" ] && [ "$state" = "$(cat "$stamp")" ]; then
  say "nothing changed, .venv is up to date"
  exit 0
fi

rm -f "$stamp"
pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check)
if [ -n "$torch" ]; then
  say "torch $torch works here and stays as it is"
  "$python" -m venv --system-site-packages .venv
  echo "torch==$torch" > .venv/constraints.txt
  wanted=(-e '.[dev]' -c .venv/constraints.txt)
else
  "$python" -m venv .venv
  wanted=(-e '.[dev]')
  if "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; then
    say "installing the tested versions into .venv (a few minutes the first time)"
    "${pip[@]}" -r requirements.txt
    wanted=(--no-deps --no-build-isolation -e .)  # by the setuptools of requirements.txt, not by the newest
  fi
fi
say "installing mcvqa into .venv"
"${pip[@]}" "${wanted[@]}"
.venv/bin/mcvqa --version
printf '%s' "$state" > "$stamp"
say "done: .venv/bin/mcvqa --help"
