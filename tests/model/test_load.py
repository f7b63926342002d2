"""Loading: what is quantised, what is trained, and adapters that other programs can read."""
import contextlib
import copy
import dataclasses
import json
import pickle
import shutil
import warnings

import bitsandbytes
import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig

from mcvqa.config import LANGUAGE_PROJECTIONS, Config
from mcvqa.model import device, load
from mcvqa.model.adapters import adapter_settings, trained_parameters
from mcvqa.model.device import GIB, DeviceError, DevicePlan, plan_device
from mcvqa.model.families.registry import FAMILIES
from mcvqa.model.load import (
    BaseModel,
    ModelError,
    load_adapter,
    load_base,
    make_trainable,
    model_folder,
    remove_adapters,
    verify_quantization,
)
from mcvqa.model.size import choose_weights, measure_model
from mcvqa.model.vision.features import weights_hash
from mcvqa.training.checkpoint import CheckpointError, load_trained, save_trained

QWEN_3B = Qwen2_5_VLConfig(
    text_config=dict(
        vocab_size=151936, hidden_size=2048, intermediate_size=11008, num_hidden_layers=36, num_attention_heads=16,
        num_key_value_heads=2, tie_word_embeddings=True, rope_parameters=dict(rope_type="default", mrope_section=[16, 24, 24]),
    ),
    vision_config=dict(
        depth=32, hidden_size=1280, intermediate_size=3420, num_heads=16, fullatt_block_indexes=[7, 15, 23, 31],
        window_size=112, patch_size=14, out_hidden_size=2048,
    ),
    tie_word_embeddings=True,
)


# %% what is trained
def test_lora_on_3b_trains_14966784_parameters():
    assert measure_model(QWEN_3B, Config(lora_r=8)).trained == 14_966_784


def test_bare_suffixes_would_reach_the_vision_tower():
    """The bug to be made impossible, put back: target_modules by suffix trains 18,576,384."""
    class Careless:
        language = FAMILIES["qwen2_5_vl"].language

        def adapter_pattern(self, projections, *, vision=False):
            return list(LANGUAGE_PROJECTIONS)

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(QWEN_3B)
    adapted = get_peft_model(model, adapter_settings(Config(), Careless()), low_cpu_mem_usage=True)
    assert sum(p.numel() for p in trained_parameters(adapted).values()) == 18_576_384


def test_adapters_reach_the_vision_tower_when_asked(base, tiny_config):
    fresh = dataclasses.replace(base, model=copy.deepcopy(base.model))
    model = make_trainable(fresh, tiny_config.replace(lora_vision=True), 0)
    names = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in trained_parameters(model) if ".visual." in name}
    assert names == {"qkv", "proj", "gate_proj", "up_proj", "down_proj"}
    remove_adapters(fresh, model)
    model = make_trainable(fresh, tiny_config.replace(target_modules=("q_proj",)), 0)
    assert all(".language_model." in name and ".q_proj." in name for name in trained_parameters(model))


def test_adapters_are_fresh_each_time_and_leave_the_base_as_it_was(base, tiny_config):
    """Invariant 4: a fold starts from freshly initialised adapters, on an untouched base."""
    before = weights_hash(base.model)
    model = make_trainable(base, tiny_config, 0)
    first = {n: p.detach().clone() for n, p in trained_parameters(model).items()}
    assert all((p == 0).all() for n, p in first.items() if "lora_B" in n)
    with torch.no_grad():
        for p in trained_parameters(model).values():
            p.add_(1.0)
    remove_adapters(base, model)
    assert weights_hash(base.model) == before
    for seed, same in ((0, True), (1, False)):
        model = make_trainable(base, tiny_config, seed)
        again = trained_parameters(model)
        assert all(torch.equal(first[n], again[n]) for n in first if "lora_A" in n) is same
        assert all(torch.equal(first[n], again[n]) for n in first if "lora_B" in n)
        remove_adapters(base, model)


@pytest.mark.parametrize("kind", [{"use_rslora": True}, {"use_dora": True}], ids=["rsLoRA", "DoRA"])
def test_saved_adapters_are_plain_peft_folders(base, tiny_config, tmp_path, kind):
    model = make_trainable(base, tiny_config.replace(**kind), 0)
    with torch.no_grad():
        for p in trained_parameters(model).values():
            p.add_(0.05 * torch.randn_like(p, dtype=torch.float32))
    ids = torch.randint(10, 400, (2, 12), generator=torch.Generator().manual_seed(0))
    model.eval()
    with torch.no_grad():
        wanted = model(input_ids=ids).logits
    save_trained(model, tmp_path / "best", {"fold": 0})
    remove_adapters(base, model)
    with torch.no_grad():
        assert not torch.allclose(base.model(input_ids=ids).logits, wanted)
        elsewhere = PeftModel.from_pretrained(copy.deepcopy(base.model), str(tmp_path / "best")).eval()
        torch.testing.assert_close(elsewhere(input_ids=ids).logits, wanted)
        own = load_adapter(base, tmp_path / "best")
        torch.testing.assert_close(own(input_ids=ids).logits, wanted)
    remove_adapters(base, own)


@pytest.mark.parametrize("damage", ["missing", "renamed"])
def test_an_adapter_that_is_not_loaded_whole_is_refused(base, tiny_config, tmp_path, damage):
    """PEFT warns, and leaves fresh adapters where the file has none."""
    model = make_trainable(base, tiny_config, 0)
    save_trained(model, tmp_path / "best", {"fold": 0})
    remove_adapters(base, model)
    file = tmp_path / "best" / "adapter_model.safetensors"
    tensors = load_file(file)
    name = max(tensors)
    value = tensors.pop(name)
    save_file(tensors | ({name.replace(".layers.", ".layer."): value} if damage == "renamed" else {}), file)
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors is damaged"):
        load_trained(base, tmp_path / "best")
    with warnings.catch_warnings(), pytest.raises(ModelError, match=r"do not belong to this model: [12] tensors differ"):
        warnings.simplefilter("ignore")
        load_adapter(base, tmp_path / "best")
    assert not [name for name, _ in base.model.named_parameters() if "lora" in name], "the base is left as it was"


class Hostile:
    """Pickled, it makes a file when it is read."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def __reduce__(self):
        return open, (self.trace, "w")


def test_a_pickled_checkpoint_is_never_read(base, tmp_path):
    for name in ("adapter_model.bin", "pytorch_model.bin", "training_args.bin"):
        (tmp_path / name).write_bytes(pickle.dumps({"weights": Hostile(str(tmp_path / "executed"))}))
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "target_modules": ["q_proj"]}')
    with pytest.raises(ModelError, match="has no safetensors weights"):
        load_adapter(base, tmp_path)
    pickle.loads((tmp_path / "adapter_model.bin").read_bytes())["weights"].close()
    assert (tmp_path / "executed").exists(), "the file is hostile, and load_adapter has not read it"


def test_code_beside_a_hostile_configuration_is_never_executed(tiny_config, tmp_path):
    folder = shutil.copytree(model_folder(tiny_config), tmp_path / "hostile")
    code = f"open({str(tmp_path / 'executed')!r}, 'w')\n"
    (folder / "evil.py").write_text(code + "class Evil: pass\n")
    facts = json.loads((folder / "config.json").read_text())
    named = {auto: "evil.Evil" for auto in ("AutoConfig", "AutoModel", "AutoModelForImageTextToText", "AutoTokenizer")}
    for hostile in (facts | {"auto_map": named}, {"model_type": "evil", "auto_map": named}):
        (folder / "config.json").write_text(json.dumps(hostile))
        config = tiny_config.replace(model_id=str(folder))
        with contextlib.suppress(ModelError):  # what is known is loaded without the code, what is not is refused
            load_base(config, plan_device(config))
    assert not (tmp_path / "executed").exists()


def test_without_adapters_all_weights_are_trained_and_saved(base, tiny_config, tmp_path):
    fresh = dataclasses.replace(base, model=copy.deepcopy(base.model))
    model = make_trainable(fresh, tiny_config.replace(lora_r=0), 0)
    assert len(trained_parameters(model)) == len(dict(base.model.named_parameters()))
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    save_trained(model, tmp_path / "best", {"fold": 0})
    again = dataclasses.replace(base, model=copy.deepcopy(base.model))
    assert weights_hash(load_adapter(again, tmp_path / "best")) == weights_hash(model)


# %% 4-bit
def four_bit_base(tiny_config) -> tuple[Config, BaseModel]:
    config = tiny_config.replace(quantization="4bit")
    return config, load_base(config, plan_device(config))


def test_qlora_learns_on_the_cpu_with_4_bit_weights_in_the_language_model_only(tiny_config):
    config, base = four_bit_base(tiny_config)
    kinds = {name: type(module).__name__ for name, module in base.model.named_modules()}
    four_bit = {name for name, kind in kinds.items() if kind == "Linear4bit"}
    assert len(four_bit) == base.model.config.text_config.num_hidden_layers * len(LANGUAGE_PROJECTIONS)
    assert all(name.startswith("model.language_model.layers.") for name in four_bit)
    assert kinds["lm_head"] == "Linear" and kinds["model.visual.blocks.0.mlp.gate_proj"] == "Linear"
    model = make_trainable(base, config, 0).train()
    optimizer = torch.optim.AdamW(trained_parameters(model).values(), lr=1e-2)
    ids = torch.randint(10, 400, (4, 12), generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(8):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3
    with pytest.raises(ModelError, match="impossible with 4-bit weights"):
        make_trainable(base, config.replace(lora_r=0, quantization="auto"), 0)


def test_a_quantised_vision_tower_is_refused(tiny_config, monkeypatch):
    """Skipping 'visual' by its bare name skips nothing in current transformers: look after loading."""
    careless = load.four_bit_settings(FAMILIES["qwen2_5_vl"], torch.float32)
    careless.llm_int8_skip_modules = ["visual", "lm_head"]
    monkeypatch.setattr(load, "four_bit_settings", lambda family, dtype: careless)
    try:
        _, base = four_bit_base(tiny_config)
    except ModelError as error:
        assert "4-bit weights are not where they should be" in str(error)
    else:  # a version of transformers that understands the bare name: then the tower is left alone
        verify_quantization(base.model, base.family)


# %% what fits
@pytest.mark.parametrize(("memory", "four_bit"), [(15, False), (10, True)])
def test_4_bit_weights_where_the_full_ones_do_not_fit(memory, four_bit, monkeypatch):
    """Qwen2.5-VL-3B: 3.75 billion weights, 7.0 GiB in float16."""
    monkeypatch.setattr(device, "find_spec", lambda name: True)
    undecided = DevicePlan("cuda", torch.float16, memory * GIB, None, True, 0, ())
    plan = choose_weights(Config(), undecided, QWEN_3B)
    assert plan.four_bit is four_bit and choose_weights(Config(), plan, QWEN_3B) is plan
    fit = "do not fit" if four_bit else "fit"
    assert plan.reasons == (
        f"4-bit weights {'on' if four_bit else 'off'}: 7.0 GiB of weights in float16 + 0.3 GiB training state + 3 GiB for "
        f"activations {fit} into {memory:.1f} GiB",
    )


def test_4_bit_weights_are_no_way_to_train_all_weights_and_need_their_library(monkeypatch):
    undecided = DevicePlan("cuda", torch.float16, 8 * GIB, None, True, 0, ())
    assert choose_weights(Config(lora_r=0), undecided, QWEN_3B).four_bit is False
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"do not fit into 8.0 GiB\) need bitsandbytes: pip install"):
        choose_weights(Config(), undecided, QWEN_3B)


@pytest.mark.parametrize("lora_r", [4, 0], ids=["blocks", "the library's layers"])
def test_checkpointing_is_switched_on_and_off(tiny_config, lora_r):
    config = tiny_config.replace(lora_r=lora_r)
    base = load_base(config, plan_device(config))
    answers = base.answers(make_trainable(base, config, 0))
    for on in (True, False):
        answers.set_checkpointing(on)
        saving = [not block.keep for block in answers.blocks] or [layer.gradient_checkpointing for layer in base.language.layers]
        assert set(saving) == {on} and len(saving) == len(base.language.layers) * (2 if lora_r else 1)


# %% what is refused
@pytest.mark.parametrize(("version", "refused"), [("5.4.0", True), ("5.5.3", True), ("5.3.9", False), ("5.5.4", False)])
def test_transformers_with_wrong_positions_are_refused(version, refused, monkeypatch):
    monkeypatch.setattr(load.transformers, "__version__", version)
    if refused:
        with pytest.raises(ModelError, match="wrong image positions"):
            load.check_transformers()
    else:
        load.check_transformers()


def test_a_model_that_is_not_there_is_said_for_people(tmp_path, tiny_config):
    config = tiny_config.replace(model_id=str(tmp_path))
    with pytest.raises(ModelError, match="Expected a hub name such as"):
        load.load_encoder(config)


def test_4_bit_weights_stay_as_they_are_packed_when_they_are_read(tiny_config):
    """bitsandbytes would pack them anew on a CPU with AVX512-BF16, and stop at rows of 480 values."""
    config = tiny_config.replace(quantization="4bit")
    model = load_base(config, plan_device(config)).model
    if not hasattr(bitsandbytes.nn.Linear4bit(2, 2), "support_avx512bf16_for_cpu"):
        pytest.skip("this version of bitsandbytes packs nothing anew")
    packed = [module for module in model.modules() if hasattr(module, "support_avx512bf16_for_cpu")]
    before = [module.weight.data.clone() for module in packed]
    model.generate(input_ids=torch.arange(10, 20)[None], max_new_tokens=2, do_sample=False)
    assert packed and all(torch.equal(module.weight.data, own) for module, own in zip(packed, before, strict=True))
