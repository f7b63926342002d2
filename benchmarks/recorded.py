"""Training with plain passes and with recorded ones (CUDA graphs), one after the other on one GPU.

    python benchmarks/recorded.py --model FOLDER --csv train.csv --rows 512 --set gpu_profile=t4 num_epochs=2 batch_size=16

Prints a line RESULT {json} for each, as benchmarks/engine.py does. All rows of a step go through the model at once, with
checkpointing; whether passes are recorded is given here, and not found out.
"""
import argparse
import tempfile
from pathlib import Path

from engine import inputs_of, measure_training
from mcvqa.config import load_config, parse_changes
from mcvqa.data.questions import read_questions
from mcvqa.model.device import plan_device
from mcvqa.model.load import load_base
from mcvqa.model.memory import MemoryPlan
from mcvqa.model.rows import RowMaker
from mcvqa.model.vision import FeatureStore

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--csv", type=Path, required=True, help="rows with answers, beside their photographs")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--set", nargs="*", default=[], help="settings, name=value")
    options = parser.parse_args()
    config = load_config(changes=dict(model_id=options.model) | parse_changes(options.set))
    base = load_base(config, plan_device(config))
    questions = read_questions(options.csv).questions[: options.rows]
    images = inputs_of(base, options.csv.parent, questions, config)
    with tempfile.TemporaryDirectory() as temporary:
        store = FeatureStore(Path(temporary) / "features", base, images)
        store.fill(base, dict.fromkeys(q.image for q in questions))
        for recorded in (False, True):
            memory = MemoryPlan(config.effective_batch, checkpointing=True, recorded=recorded)
            folder = Path(temporary) / str(memory)
            measure_training(base, RowMaker(base.encoder, images, store), questions, config, folder, memory)
