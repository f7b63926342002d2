"""Runs of a model with experts in 4 bits."""
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from transformers import LlavaConfig, LlavaForConditionalGeneration

from mcvqa import Config, run
from mcvqa.answer.export import export_run
from mcvqa.model.device import plan_device
from mcvqa.model.experts import STACKS, is_packed, stacked_experts
from mcvqa.model.load import ModelError, load_base
from tests.model.other_families import TEXT, llava, save_family
from tests.model.test_experts import needs_peft
from tests.run.test_interrupt import settings_in, stopped_by, trained_in


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return save_family("llava_moe", tmp_path_factory.mktemp("model"))


def test_experts_are_in_4_bits_where_they_are_asked_for(folder):
    config = Config(model_id=folder, device="cpu", quantization="4bit")
    for bits, wanted in (("4bit", True), ("none", False)):
        base = load_base(config.replace(quantization=bits), plan_device(config.replace(quantization=bits)))
        stacks = [getattr(one, name) for one in stacked_experts(base.model).values() for name in STACKS]
        assert len(stacks) == 4 and all(is_packed(stack) is wanted for stack in stacks)


LOADING = """
import sys, threading, time
from pathlib import Path
from mcvqa.config import Config
from mcvqa.model.device import plan_device
from mcvqa.model.load import ModelError, load_base

def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024

def load(folder):
    config = Config(model_id=folder, device="cpu", quantization="4bit", precision="float16")
    return load_base(config, plan_device(config))

load(sys.argv[1])
before, seen, base = held(), [], []
loading = threading.Thread(target=lambda: base.append(load(sys.argv[2])))
loading.start()
while loading.is_alive():
    seen.append(held())
    time.sleep(0.001)
print("PEAK", max(seen) - before, held() - before)
"""


@pytest.mark.torture
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures memory by Linux's /proc")
def test_the_16_bit_experts_are_never_all_in_memory(folder, tmp_path):
    """At the peak of loading there are the packed weights and what quantizing one stack takes: on CPUs bitsandbytes makes it
    float32 several times."""
    processor, small = llava()
    text = dict(TEXT, model_type="qwen3_moe", hidden_size=256, num_hidden_layers=20, num_experts=64, num_experts_per_tok=2,
                moe_intermediate_size=256)
    model = LlavaForConditionalGeneration(LlavaConfig(**small.config.to_dict() | dict(text_config=text))).half()
    for each in (processor, model):
        each.save_pretrained(tmp_path)
    full, stack = 2 * sum(p.numel() for p in model.parameters()), 2 * 64 * 2 * 256 * 256
    said = subprocess.run(
        [sys.executable, "-c", LOADING, folder, str(tmp_path)], capture_output=True, text=True, check=True,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}).stdout  # freed tensors are given back at once
    peak, held = map(int, said.split("PEAK")[1].split())
    assert held < 0.35 * full and peak < held + 9 * stack < 0.7 * full, (held, peak, stack, full)


@pytest.mark.torture
def test_a_run_on_defaults_trains_and_scores(folder, dataset, tmp_path):
    outcome = run(Config(
        data_dir=str(dataset), output_dir=str(tmp_path), model_id=folder, device="cpu", quantization="4bit", run_name="r"))
    assert outcome.submission.exists()


@needs_peft
@pytest.mark.nightly
def test_adapters_on_experts_are_trained_exported_and_taken_up_again(folder, dataset, tmp_path):
    """In 4 bits; merged they are weights of the base model, which the export compares with both, and asks for answers."""
    config = Config(
        data_dir=str(dataset), output_dir=str(tmp_path), model_id=folder, device="cpu", quantization="4bit", run_name="r",
        target_modules="all-linear,experts", lora_dropout=0.0, use_kfold=False, num_epochs=2)
    run(config)
    export_run(config, tmp_path / "adapters", merged=False)
    trained = load_file(tmp_path / "adapters" / "adapter_model.safetensors")
    ups = [value for name, value in trained.items() if ".experts." in name and "lora_B" in name]
    assert len(ups) == 4 and all(value.abs().max() > 0 for value in ups)
    export_run(config, tmp_path / "merged", merged=True)
    assert "**vLLM ignores adapters on experts" in (tmp_path / "adapters" / "serve.md").read_text(encoding="utf-8")
    assert "ignores" not in (tmp_path / "merged" / "serve.md").read_text(encoding="utf-8")
    further = config.replace(run_name="further", start_from=str(tmp_path / "adapters"))
    run(further)
    with pytest.raises(ModelError, match=r"on experts, k_proj.*--set target_modules=experts,k_proj,o_proj,q_proj,v_proj"):
        run(further.replace(run_name="other", target_modules="all-linear"))


@pytest.mark.nightly
def test_a_stopped_fold_goes_on_as_if_nothing_had_happened(folder, dataset, tmp_path):
    def settings(name: str) -> Config:
        (tmp_path / name).mkdir()
        config = settings_in(tmp_path / name, dataset).replace(model_id=folder, quantization="4bit")
        (tmp_path / name / "settings.yaml").write_text(config.to_yaml(), encoding="utf-8")
        return config

    whole, config = trained_in(settings("whole")), settings("stopped")
    status, said = stopped_by(signal.SIGTERM, config, 3)
    assert status and "stopping after this step" in said
    resumed = trained_in(config)
    assert resumed.hashes == whole.hashes and resumed.steps == whole.steps
    for mine, theirs in zip(resumed.scores, whole.scores, strict=True):
        np.testing.assert_array_equal(mine, theirs)
