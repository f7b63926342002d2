"""`python -m mcvqa`, which is also what launchers start: torchrun --nproc_per_node 2 -m mcvqa run --data FOLDER"""
from mcvqa.cli import app

app(prog_name="mcvqa")
