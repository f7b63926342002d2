"""Training with plain passes and with recorded ones (CUDA graphs), one after the other on one GPU.

    python benchmarks/recorded.py --model FOLDER --csv train.csv --rows 512 --set gpu_profile=t4 num_epochs=2 batch_size=16

Prints a line RESULT {json} for each, as benchmarks/engine.py does. All rows of a step go through the model at once, with
checkpointing; whether passes are recorded is given here, and not found out.
"""
import tempfile
from pathlib import Path

from engine import arguments, loaded, measure_training
from mcvqa.model.memory import MemoryPlan
from mcvqa.model.rows import RowMaker
from mcvqa.model.vision import FeatureStore

if __name__ == "__main__":
    config, base, questions, images = loaded(arguments(__doc__).parse_args())
    with tempfile.TemporaryDirectory() as temporary:
        store = FeatureStore(Path(temporary) / "features", base, images)
        store.fill(base, dict.fromkeys(q.image for q in questions))
        for recorded in (False, True):
            memory = MemoryPlan(config.effective_batch, checkpointing=True, recorded=recorded)
            folder = Path(temporary) / str(memory)
            measure_training(base, RowMaker(base.encoder, images, store), questions, config, folder, memory)
