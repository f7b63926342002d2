"""The storage of a run goes away so that its mount point stays, as an empty folder: nothing is written there or started over."""
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcvqa.config import Config
from tests.conftest import make_dataset, tiny_settings
from tests.faults import bind, unmount

SIGNS = {
    "training": "checkpoints/r/fold*/resume/*", "publishing": "checkpoints/r/fold*/best/manifest.json",
    "scoring": "experiments/r/scores/fold*-test.npz",
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data"))


def started(config: Config, file: Path) -> subprocess.Popen:
    file.write_text(config.to_yaml(), encoding="utf-8")
    return subprocess.Popen([sys.executable, "-m", "mcvqa", "run", "--config", str(file)], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


def settings(dataset: Path, out: Path, **changes) -> Config:
    return tiny_settings(out, data_dir=str(dataset), run_name="r", n_folds=2, num_epochs=2, save_minutes=0, **changes)


def results(out: Path) -> dict[str, bytes]:
    of_attempt = {f"fold{fold}-{kind}.npz" for fold in (0, 1) for kind in ("raw", "ema", "swa")}  # which attempt is in them
    files = [*out.glob("experiments/r/scores/*.npz"), *out.glob("checkpoints/r/*/*/*.safetensors"), *out.glob("outputs/*.csv")]
    return {file.name: file.read_bytes() for file in files if file.name not in of_attempt}


@pytest.fixture(scope="module")
def undisturbed(dataset, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed")
    assert started(settings(dataset, out, executor="inline"), out / "run.yaml").wait() == 0
    return results(out)


@pytest.mark.parametrize(("moment", "executor"), [
    pytest.param("training", "inline", marks=pytest.mark.nightly),
    *(pytest.param(moment, "inline", marks=pytest.mark.torture) for moment in ("publishing", "scoring")),
    *(pytest.param(moment, "processes", marks=pytest.mark.torture) for moment in ("training", "publishing", "scoring")),
])
def test_an_unmounted_output_folder_is_waited_for(dataset, undisturbed, tmp_path, moment, executor):
    drive, out = tmp_path / "drive", tmp_path / "out"
    drive.mkdir()
    out.mkdir()
    bind(drive, out)
    try:
        running = started(settings(dataset, out, executor=executor, parallel_folds=2), tmp_path / "run.yaml")
        while not any(drive.glob(SIGNS[moment])):
            assert running.poll() is None, running.communicate()[0]
            time.sleep(0.01)
        unmount(out)
        time.sleep(12)
        written = [path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()]
        bind(drive, out)
        said = running.communicate(timeout=400)[0]
    finally:
        unmount(out)
    assert written == [] and "is not mounted" in said
    assert running.returncode == 0, said
    assert results(drive) == undisturbed
