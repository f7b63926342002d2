"""`check`: what it prints is true, and it leaves nothing behind."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mcvqa.config import Config, load_config
from mcvqa.data.answers import LETTERS
from mcvqa.data.questions import read_questions
from mcvqa.model.content import packaged_tiny
from mcvqa.model.device import GIB, DevicePlan
from mcvqa.model.rows import RowMaker
from mcvqa.model.size import measure_model
from mcvqa.run.check import check_memory, check_run
from mcvqa.run.division import too_small_to_divide
from mcvqa.run.lengths import kept_values
from tests.conftest import make_dataset, tiny_settings
from tests.model.chat_templates import KINDS
from tests.model.model_sizes import SIZES
from tests.model.other_families import save_family


def everything_below(folder: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*")}


@pytest.fixture
def checked(tmp_path, monkeypatch, capsys):
    """checked(damage, **settings) -> (ready, what was printed), after making sure that no file was made or changed."""
    def check(damage=lambda data: None, **changes) -> tuple[bool, str]:
        data = make_dataset(tmp_path / "data")
        damage(data)
        monkeypatch.chdir(tmp_path)
        before = everything_below(tmp_path)
        ready = check_run(tiny_settings(Path(), **dict(data_dir="data") | changes))
        assert everything_below(tmp_path) == before
        return ready, capsys.readouterr().out

    return check


def test_a_run_that_can_go_on(checked, tmp_path):
    ready, said = checked(user_prompt="")
    assert "instruction of the prompt: in Korean (the language that tiny was trained on)" in said
    assert ready and said.rstrip().endswith("ready: no problems found")
    assert not [line for line in said.splitlines() if line.startswith("  !")]
    for section in ("data", "device", "label alignment", "rows", "memory, disk, time"):
        assert re.search(rf"^{section}", said, re.MULTILINE)
    question = read_questions(tmp_path / "data" / "train.csv").questions[0]
    letter = LETTERS[question.answer]
    assert f"assistant\n  >>>{letter}<<<<|im_end|>" in said, "the supervised token is marked where it is"
    tokens = int(re.search(r"the (\d+) tokens of the prompt", said)[1])
    assert f"{letter!r} at position {tokens}, predicted from position {tokens - 1}" in said
    assert f"({letter}) {question.choices[question.answer]}" in said and "<|image_pad|> x " in said
    assert "· fast path: image features are computed once, option orders share a prompt" in said
    assert "24 training rows, 9 test rows" in said and "photographs: 33, of which 0 cannot be read" in said
    assert re.search(r"adapters on q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj: 56 layers "
                     r"\(the language model has 56 linear layers\), which hold \d\d% of all weights", said)
    for figure in (r"memory: [\d.]+ of [\d.]+ GiB", r"disk: [\d.]+ of [\d.]+ GiB", r"time: [\d.]+ s per step", r"\d+ rows/s"):
        assert re.search(figure, said)


def test_members_that_are_not_there_are_named(checked, tmp_path):
    """`check` said ready, and the run stopped at its second step."""
    (tmp_path / "friend.csv").write_text("id,answer\n")
    ready, said = checked(members=("prior", str(tmp_path / "friend.csv"), "lr0.1"))
    missing = [line for line in said.splitlines() if "does not exist" in line]
    assert not ready and len(missing) == 1
    assert missing[0].startswith("  ! members: ") and "lr0.1/scores does not exist" in missing[0]


def test_an_earlier_session_that_is_not_there_is_named(checked):
    ready, said = checked(resume_from="nowhere")
    assert not ready and "! resume_from='nowhere' holds no checkpoints/tiny-" in said


@pytest.mark.parametrize(
    ("missing", "last"), [(10, "! train/train_0009.jpg: no such file"), (11, "! and 1 more"), (12, "! and 2 more")]
)
def test_of_many_broken_photographs_ten_are_named_and_the_others_counted(checked, missing, last):
    def without_some(data: Path) -> None:
        for number in range(missing):
            (data / "train" / f"train_{number:04d}.jpg").unlink()

    _, said = checked(without_some)
    assert f"! photographs: 33, of which {missing} cannot be read" in said
    named = re.findall(r"! train/train_\d{4}\.jpg: no such file", said)
    assert len(named) == 10 and f"  {last}\n" in said and ("more" in last) == ("! and" in said)


def test_a_conversation_that_differs_from_the_prompt_is_said_with_both_texts(checked, tmp_path):
    (tmp_path / "data").mkdir()
    source = KINDS["gemma 4: the prompt holds an empty thought, the conversation none"][0]
    (tmp_path / "data" / "template.jinja").write_text(source)
    ready, said = checked(chat_template=str(tmp_path / "data" / "template.jinja"))
    assert ready and "the letter does not directly follow this prompt; training uses the prompt followed directly" in said
    letter = re.search(r"<\|channel>thought\n  <channel\|>>>>(\w)<<<\n", said)[1]
    assert f"    <|im_start|>assistant\n    {letter}<|im_end|>\n" in said


def test_missing_photographs_stand_in_the_way(checked):
    def damage(data: Path) -> None:
        for file in (data / "train").iterdir():
            file.unlink()

    ready, said = checked(damage)
    assert not ready and "! photographs: 33, of which 24 cannot be read" in said
    assert "! train/train_0000.jpg: no such file" in said and "not ready" in said


def test_what_is_odd_is_marked_but_does_not_stop(checked):
    def damage(data: Path) -> None:
        text = (data / "train.csv").read_text(encoding="utf-8")
        (data / "train.csv").write_text(text + "train_0000,train/train_0000.jpg,또?,x,y,z,w,q\n", encoding="utf-8")

    ready, said = checked(damage, use_dev=True)
    assert ready and "! train.csv: 1 answer is not used, neither a letter nor the text of a choice: 'q'" in said
    assert "train.csv: answers are letters: " in said


@pytest.mark.parametrize(("family", "image"), [("qwen3_vl", "<|image_pad|> x "), ("idefics3", "<image> x 4")])
def test_other_families_are_checked_too(checked, tmp_path_factory, family, image):
    ready, said = checked(model_id=save_family(family, tmp_path_factory.mktemp(family)), image_size=128)
    assert ready and not [line for line in said.splitlines() if line.startswith("  !")]
    assert image in said and "사진 0의 색은 무엇입니까?" in said, "letters of several tokens are shown whole"
    assert ("which this estimate does not include" in said) == (family == "idefics3")


def test_dora_is_said_to_leave_the_fast_layers(checked):
    ready, said = checked(use_dora=True)
    assert ready and "· use_dora=true uses PEFT's layers instead of the fast ones" in said and "fast path:" not in said


STEP_OF_16 = dict(batch_size=4, grad_accum_steps=4)
TOO_SMALL = "a step of {} is too small to divide among {}"


@pytest.mark.parametrize(("settings", "device", "stages", "processes", "seconds", "said"), [
    (STEP_OF_16, "cuda", 0, 1, 0.16, ""), (STEP_OF_16, "cuda", 0, 2, 4.6, ""), (STEP_OF_16, "cpu", 0, 2, 0.001, ""),
    (STEP_OF_16, "cuda", 0, 2, 0.16, TOO_SMALL.format("16 rows", "2 GPUs by torchrun: to launch the kernels of its share takes a "
     "process 0.29 s, to compute it 0.08 s: use steps of 60 rows or more (--set grad_accum_steps=15), or train several folds, "
     "one on each GPU")),
    (dict(batch_size=3, grad_accum_steps=1), "cpu", 0, 4, 1.0, TOO_SMALL.format("3 rows", "4 processes, some of which would have "
     "none: use steps of 6 rows or more (--set grad_accum_steps=2)")),
    (dict(batch_size=1, grad_accum_steps=4), "cuda", 2, 1, 1.0, ""),
    (dict(batch_size=1, grad_accum_steps=2), "cuda", 2, 1, 1.0, TOO_SMALL.format("2 rows", "the 2 GPUs of a model, which compute "
     "at most 67% of the time: use steps of 4 rows or more (--set grad_accum_steps=4)")),
])
def test_a_step_that_is_too_small_to_divide(settings, device, stages, processes, seconds, said):
    on = tuple(SimpleNamespace(device=f"cuda:{number}", memory=15 * GIB) for number in range(stages))
    plan = DevicePlan(device, torch.float16, 15 * GIB, False, False, 0, (), stages=on)
    assert too_small_to_divide(Config(**settings), plan, processes, seconds, 36) == said


def test_a_step_that_a_launcher_cannot_divide_is_named(checked, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "9")
    ready, said = checked(batch_size=8)
    assert ready and "  · a step of 8 rows is too small to divide among 9 processes" in said


@pytest.mark.nightly
def test_whether_the_presets_for_large_models_fit_is_said_for_the_gpu_at_hand(capsys):
    """From layer sizes, as of a model that is not downloaded yet, with the longest row of 400 tokens."""
    def prepared(preset: str, model: str, **packing):
        """Prints, for a GPU of so many GiB, whether the preset fits."""
        config, model_config = load_config(preset=preset), SIZES[model]()
        model_config.quantization_config = packing
        size = measure_model(model_config, config)

        def said(memory: float, dtype: torch.dtype) -> str:
            plan = DevicePlan("cuda", dtype, int(memory * GIB), True, True, 0, ())
            kept = kept_values(RowMaker(None, None, None), config, plan, model_config) * plan.dtype.itemsize
            fits = check_memory(config, plan, size, 400 * kept)
            printed = capsys.readouterr().out
            assert fits == ("!" not in printed) and ("it does not fit" in printed) == (not fits)
            return printed

        return said

    assert "· memory: 9.0 of 14.6 GiB" in prepared("strong", "Qwen/Qwen3-VL-8B-Instruct")(14.6, torch.float16)
    published = dict(quant_method="bitsandbytes", load_in_4bit=True, bnb_4bit_use_double_quant=True)
    large = prepared("large", "Qwen/Qwen3-VL-32B-Instruct", **published)
    assert "· memory: 21.6 of 23.6 GiB" in large(23.6, torch.bfloat16), "of an RTX 3090 or 4090"
    for memory, dtype in ((14.6, torch.float16), (22.0, torch.bfloat16)):  # of a T4, and of an L4 or A10G
        assert "needs a GPU with 24 GiB or more or several smaller ones (gpus_per_model)" in large(memory, dtype)
    assert "To use less memory: a smaller lora_r (now 16), " in large(22.0, torch.bfloat16)


def test_a_damaged_model_is_named_and_the_rest_is_checked(checked, tmp_path_factory):
    folder = shutil.copytree(packaged_tiny(), tmp_path_factory.mktemp("model") / "model")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1_000_000])
    ready, said = checked(model_id=str(folder))
    assert not ready and "model.safetensors is cut off or damaged" in said and "not ready" in said
    assert "memory: " in said and "time: " in said
    (folder / "config.json").write_text("{")
    ready, said = checked(model_id=str(folder))
    assert not ready and "not a valid JSON file" in said and "disk: " in said and "memory: " not in said


@pytest.mark.nightly
def test_a_hub_name_without_an_owner_is_a_hub_name(checked, monkeypatch):
    """Nobody who answered was a traceback of the HTTP library."""
    monkeypatch.setattr("mcvqa.model.source.constants.ENDPOINT", "http://127.0.0.1:9")
    ready, said = checked(model_id="gpt2")
    assert not ready and "! gpt2 is not downloaded yet and http://127.0.0.1:9 cannot be reached" in said


@pytest.mark.parametrize("cached", [
    pytest.param(None, marks=pytest.mark.nightly), pytest.param("config.json", marks=pytest.mark.torture),
    pytest.param("*", marks=pytest.mark.torture),
])
def test_without_a_hub_one_line_says_so_and_the_rest_is_checked(dataset, tmp_path, cached):
    """A hub model, and nobody who answers: really a closed port."""
    snapshot = tmp_path / "hub" / "models--some--model" / "snapshots" / "1234"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("1234")
    for file in packaged_tiny().glob(cached) if cached else ():
        shutil.copy(file, snapshot)
    words = [f"data_dir={dataset}", "model_id=some/model", "image_size=56", "device=cpu", f"output_dir={tmp_path / 'out'}"]
    ended = subprocess.run(
        [sys.executable, "-m", "mcvqa", "check", *(word for setting in words for word in ("--set", setting))],
        env=os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"},
        capture_output=True, text=True, encoding="utf-8",
    )
    assert "etry" not in ended.stdout + ended.stderr and "Traceback" not in ended.stderr
    assert ("disk: " in ended.stdout and "training rows" in ended.stdout) or cached != "*"
    about = [line for line in ended.stdout.splitlines() if "cannot be reached" in line]
    if cached == "*":
        assert ended.returncode == 0 and len(about) == 1 and "checked the cached copy" in about[0], ended.stderr
    else:
        assert ended.returncode == 1 and ended.stdout.rstrip().endswith("see the lines marked with !")
        assert ("! some/model is not downloaded yet and http://127.0.0.1:9 cannot be reached" in ended.stdout) == (cached is None)
        assert ("has no tokenizer" in ended.stdout and "trained weights" in ended.stdout) == (cached == "config.json")
