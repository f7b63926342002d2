#!/usr/bin/env bash
# Installs mcvqa and what it needs into .venv. Quick when nothing changed since the last time.
#   bash install.sh          Python >= 3.10 is all it asks for; PYTHON=python3.12 picks another one.
# A torch that already works here (Kaggle, Colab, your own GPU machine) is used as it is, never replaced.
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-python3}

say() { printf 'install: %s\n' "$*"; }

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
  say "Python 3.10 or newer is needed; '$python' is $("$python" --version 2>&1 || true). Set PYTHON=/path/to/python3.11." >&2
  exit 1
fi
gpu=no
if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; then gpu=yes; fi
torch=$("$python" -c 'import torch; torch.ones(2).sum(); print(torch.__version__.split("+")[0])' 2>/dev/null || true)

state=$(cat install.sh pyproject.toml requirements.txt; "$python" --version; pwd; echo "gpu=$gpu torch=$torch")
stamp=.venv/.installed
if [ -x .venv/bin/mcvqa ] && [ -f "$stamp" ] && [ "$state" = "$(cat "$stamp")" ]; then
  say "nothing changed, .venv is up to date"
  exit 0
fi

if [ -n "$torch" ]; then
  say "torch $torch works here and stays as it is"
  "$python" -m venv --system-site-packages .venv
  echo "torch==$torch" > .venv/constraints.txt
  wanted=(-e '.[dev]' -c .venv/constraints.txt)
else
  "$python" -m venv .venv
  wanted=(-e '.[dev]')  # the pinned versions of requirements.txt begin at Python 3.11
  if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then wanted=(-r requirements.txt -e .); fi
fi
if [ "$gpu" = yes ]; then
  say "NVIDIA GPU found: bitsandbytes for 4-bit weights is included"
  wanted+=('bitsandbytes>=0.46')
fi
say "installing into .venv (a few minutes the first time)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check "${wanted[@]}"
.venv/bin/mcvqa --version
printf '%s' "$state" > "$stamp"
say "done: .venv/bin/mcvqa --help"
