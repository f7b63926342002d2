"""Config: names, checks, presets, files; and that every field is read by something."""
import inspect
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from mcvqa.config import LANGUAGE_PROJECTIONS, PRESETS, WEIGHTS, Config, ConfigError, load_config, parse_changes, weight_changes

SOURCE = Path(__file__).parents[1] / "src" / "mcvqa"
SEED_FIELDS = [
    "MODEL_ID", "IMAGE_SIZE", "N_FOLDS", "USE_KFOLD", "NUM_EPOCHS", "BATCH_SIZE", "GRAD_ACCUM_STEPS", "LEARNING_RATE",
    "USE_AMP", "USE_EMA", "USE_SWA", "USE_TTA", "TTA_SCALES", "USE_SAMPLE", "SAMPLE_SIZE", "SEED", "TRAIN_FOLDS",
    "LORA_R", "LORA_ALPHA", "LORA_DROPOUT", "TARGET_MODULES", "WEIGHT_DECAY", "WARMUP_RATIO", "MAX_GRAD_NORM",
    "EMA_DECAY", "SWA_START_EPOCH", "USE_AUGMENTATION", "AUG_PROB", "MAX_NEW_TOKENS", "SYSTEM_PROMPT", "USER_PROMPT",
]


@pytest.mark.parametrize("name", SEED_FIELDS)
def test_every_name_of_the_original_is_accepted(name):
    value = getattr(Config(), name.lower())
    assert getattr(Config().replace(**{name: value}), name.lower()) == value


@pytest.mark.parametrize("field", list(Config.settings()))
def test_every_field_is_read(field):
    """A switch that nothing reads is an error: each is read outside of config.py, or by a property that is."""
    readers = [p for p in SOURCE.rglob("*.py") if p.name != "config.py"]
    through = {"batch_size": "effective_batch", "grad_accum_steps": "effective_batch", "train_folds": "folds_to_train",
               "run_name": "run"}
    pattern = rf"(config|settings)\.{field}\b|config\.{through.get(field, field)}\b"
    assert any(re.search(pattern, p.read_text(encoding="utf-8")) for p in readers), f"nothing reads {field}"


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'num_epochs'"):
        Config().replace(num_epoch=3)
    with pytest.raises(ConfigError, match="Did you mean 'num_epochs'"):
        Config(num_epoch=3)
    with pytest.raises(ConfigError, match="Did you mean 'learning_rate'"):
        load_config(changes={"lr": 1e-4})
    with pytest.raises(ConfigError, match="Did you mean 'cosine'"):
        Config(lr_schedule="cosin")


@pytest.mark.parametrize(("name", "value", "message"), [
    ("num_epochs", -1, "num_epochs=-1 is out of range: 0 to 1000"),
    ("lora_dropout", 1.5, "lora_dropout=1.5 is out of range: 0.0 to 0.9"),
    ("image_size", "big", "image_size='big' is invalid: expected a whole number"),
    ("shared_dir", "bucket/runs", "shared_dir='bucket/runs' is invalid. Meaning: URL"),
    ("use_ema", "maybe", "use_ema='maybe' is invalid: expected true or false"),
    ("tta_scales", (0.9, 9.0), "tta_scales=9.0 is out of range"),
    ("user_prompt", "no places", "must contain"),
    ("user_prompt", "{question} {options} {anwser}", "unknown placeholders"),
    ("run_name", "../up", "cannot be a folder name"),
    ("run_name", "가" * 67, "at most 200 bytes"),
    ("learning_rate", "nan", "expected a number"),
])
def test_impossible_values_name_field_value_and_range(name, value, message):
    with pytest.raises(ConfigError) as error:
        Config(**{name: value})
    assert message in str(error.value)


def test_a_fold_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="the folds are 0 to 2"):
        Config(train_folds=(3,))


def test_settings_that_need_each_other_are_said():
    with pytest.raises(ConfigError, match="needs shuffle_choices=true"):
        Config(train_orders=2, shuffle_choices=False)
    with pytest.raises(ConfigError, match="set train_orders to 2 or more"):
        Config(order_consistency=0.5)
    with pytest.raises(ConfigError, match="use_dora=true is a variant of LoRA, and lora_r=0 trains without"):
        Config(lora_r=0, use_dora=True)


def test_checkpointing_is_read_from_older_files_too():
    for written, meant in ((True, "always"), ("false", "never"), ("auto", "auto")):
        assert Config(gradient_checkpointing=written).gradient_checkpointing == meant
    with pytest.raises(ConfigError, match="gradient_checkpointing='sometimes' is not one of auto, always, never"):
        Config(gradient_checkpointing="sometimes")


def test_text_values_are_converted():
    config = Config().replace(**parse_changes(["NUM_EPOCHS=3", "USE_TTA=yes", "TTA_SCALES=0.9,1.0, 1.1", "train_folds=[0, 2]"]))
    assert (config.num_epochs, config.use_tta, config.tta_scales, config.train_folds) == (3, True, (0.9, 1.0, 1.1), (0, 2))
    with pytest.raises(ConfigError, match="name=value"):
        parse_changes(["NUM_EPOCHS"])


@pytest.mark.parametrize("written", [3, 3.0, "3", "3.0", "3e0", " 3 "])
def test_whole_numbers_may_be_written_in_many_ways(written):
    value = Config(num_epochs=written).num_epochs
    assert value == 3 and type(value) is int


def test_whole_numbers_are_exact_and_nothing_is_rounded():
    assert Config(sample_size="1e3").sample_size == 1000
    for wrong in (3.5, "3.5", True, "three", float("inf"), "nan", None, [3]):
        with pytest.raises(ConfigError, match="expected a whole number"):
            Config(num_epochs=wrong)
    with pytest.raises(ConfigError, match="seed=9007199254740993 is out of range"):
        Config(seed="9007199254740993")


def test_every_mistake_is_named_in_a_line_of_its_own():
    with pytest.raises(ConfigError) as error:
        Config(num_epochs=-1, devise="cpu", tta_scales=())
    lines = str(error.value).splitlines()
    assert len(lines) == 3 and "num_epochs=-1 is out of range" in lines[0] and "'devise'" in lines[2]
    assert lines[1].startswith("tta_scales must not be empty. Meaning: image scales with TTA")


def test_a_config_does_not_change_and_says_what_to_do():
    config = Config()
    with pytest.raises(ConfigError, match=re.escape("config = config.replace(num_epochs=3)")):
        config.num_epochs = 3
    assert config.num_epochs == 1


def test_pydantics_own_copy_is_checked_too():
    assert Config().model_copy(update={"num_epochs": 2}) == Config(num_epochs=2)
    with pytest.raises(ConfigError, match="num_epochs=-2 is out of range"):
        Config().model_copy(update={"num_epochs": -2})


def test_a_person_and_a_program_see_every_setting():
    shown = inspect.signature(Config).parameters
    assert {name: p.default for name, p in shown.items()} == Config().as_dict()
    known = Config.settings()
    assert (known["num_epochs"].meaning, known["num_epochs"].low, known["num_epochs"].high) == (
        "passes over the training rows", 0, 1000)
    assert (known["train_folds"].low, known["train_folds"].high, known["device"].choices) == (
        0, 49, ("auto", "cuda", "mps", "cpu"))
    assert known["loss"].choices == ("vocabulary", "choices") and not known["target_modules"].choices
    assert known["learning_rate"].weights and not known["eval_batch_size"].weights
    assert all(setting.meaning for setting in known.values())


def test_configs_with_the_same_values_are_one():
    one, other = Config(num_epochs=2), Config(num_epochs="2")
    assert one == other and hash(one) == hash(other) and len({one, other, Config()}) == 2
    assert pickle.loads(pickle.dumps(one)) == one


def test_a_home_folder_may_be_written_with_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.yaml").write_text("output_dir: ~/runs\nmembers: [other, ~/friend.csv]\n", encoding="utf-8")
    config = load_config("~/c.yaml", changes=parse_changes(["data_dir=~", "resume_from=~/old", "model_id=~/qwen"]))
    assert (config.output_dir, config.data_dir, config.resume_from) == (f"{tmp_path}/runs", str(tmp_path), f"{tmp_path}/old")
    assert config.members == ("other", f"{tmp_path}/friend.csv") and config.model_id == f"{tmp_path}/qwen"
    assert Config(output_dir="./a~/").output_dir == "./a~/", "everything else stays as it is written"
    with pytest.raises(ConfigError, match="output_dir='~nobody-here/x': the home folder ~nobody-here is unknown"):
        Config(output_dir="~nobody-here/x")


# %% in a notebook, where classes live in __main__ and cells are run again
NOTEBOOK = """
import pickle
import cloudpickle
cell = compile(open({file!r}, encoding="utf-8").read(), "cell", "exec")
exec(cell, globals())
first = Config(num_epochs="2", tta_scales="0.9,1.0")
assert Config.__module__ == "__main__" and pickle.loads(pickle.dumps(first)) == first
exec(cell, globals())
again = first.replace(lora_r=4)
assert load_config(changes=again.as_dict()).run == again.run
try:
    Config(num_epoch=3)
except ConfigError as error:
    assert "Did you mean 'num_epochs'" in str(error)
with open({out!r}, "wb") as out:
    out.write(cloudpickle.dumps(Config(num_epochs=3)))
"""


def test_config_lives_in_a_notebook_and_travels_to_workers(tmp_path):
    """A worker gets it as the notebook's cells define it, with an edited default."""
    cloudpickle = pytest.importorskip("cloudpickle")  # comes with joblib since 1.6
    edited = (SOURCE / "config.py").read_text(encoding="utf-8").replace("lora_r: int = Field(\n        default=8", (
        "lora_r: int = Field(\n        default=12"))
    (tmp_path / "cells.py").write_text(edited, encoding="utf-8")
    program = NOTEBOOK.format(file=str(tmp_path / "cells.py"), out=str(tmp_path / "config.pkl"))
    subprocess.run([sys.executable, "-c", program], check=True)
    config = cloudpickle.loads((tmp_path / "config.pkl").read_bytes())
    assert (config.num_epochs, config.lora_r, config.replace(num_epochs="4").num_epochs) == (3, 12, 4)
    assert type(config) is not Config, "the class came along"


def test_presets_are_the_seeds_table():
    quick, single, ensemble, best = (load_config(preset=name) for name in ("quick", "single", "ensemble", "best"))
    assert (quick.use_sample, quick.sample_size, quick.num_epochs, quick.use_kfold) == (True, 200, 1, False)
    assert (single.use_sample, single.num_epochs, single.use_kfold, single.model_id) == (
        False, 3, False, "Qwen/Qwen2.5-VL-3B-Instruct")
    assert (ensemble.use_sample, ensemble.num_epochs, ensemble.n_folds, ensemble.use_kfold) == (False, 3, 3, True)
    assert (best.num_epochs, best.n_folds, best.model_id, best.image_size) == (5, 3, "Qwen/Qwen2.5-VL-7B-Instruct", 512)
    assert best.use_ema and best.use_swa and best.use_tta and best.tta_scales == (0.9, 1.0, 1.1)
    assert (best.batch_size, best.grad_accum_steps) == (1, 4)
    assert set(PRESETS) == {"quick", "single", "ensemble", "best", "strong", "large", "demo"}


def test_presets_of_published_solutions():
    strong, large = (load_config(preset=name) for name in ("strong", "large"))
    assert (strong.model_id, strong.quantization, strong.num_epochs) == ("Qwen/Qwen3-VL-8B-Instruct", "4bit", 3)
    assert (strong.lora_r, strong.use_rslora, strong.folds_to_train) == (32, True, (0, 1, 2))
    assert (large.model_id, large.num_epochs, large.folds_to_train) == ("unsloth/Qwen3-VL-32B-Instruct-bnb-4bit", 5, (0,))
    for preset in (strong, large):
        assert (preset.image_size, preset.use_tta, preset.tta_orders, preset.tta_scales) == (448, True, 4, (1.0,))
        assert preset.answer_by == "letters" and 1 <= preset.lora_alpha / preset.lora_r ** (0.5 if preset.use_rslora else 1) <= 2


def test_yaml_round_trip(tmp_path):
    config = Config(num_epochs=7, tta_scales=(0.5, 1.0), run_name="시험")
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(file) == config
    assert load_config(file, changes={"NUM_EPOCHS": "2"}).num_epochs == 2
    file.write_text("num_epochs: [", encoding="utf-8")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(file)
    with pytest.raises(ConfigError, match="no configuration file"):
        load_config(tmp_path / "none.yaml")


BOMB = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9))]
HOSTILE = {
    "an alias bomb": ("\n".join([*BOMB, "system_prompt: *a8"]), "aliases"),
    "deep nesting": ("seed: " + "[" * 3000 + "]" * 3000, "nested more than 20 levels deep"),
    "nesting by lines": ("".join(" " * n + "a:\n" for n in range(40)), "nested more than 20 levels deep"),
    "a long number": ("seed: " + "9" * 5000, "not valid YAML"), "no such date": ("run_name: 2001-99-99", "not valid YAML"),
    "a long file": ("# " + "x" * 300_000, "file of 293 KiB; at most 256 are read"), "a list": ("- a", "contains a list"),
    "many values": (f"seed: [{'x, ' * 50_000}]", "more than 1000 values"),
    "a name twice": ("seed: 1\nlora_r: 8\nSEED: 2", "'seed' is defined twice, the second time in line 3"),
    "a long text": ("seed: " + "x" * 9000, "expected a whole number"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_refused_in_few_words(name, tmp_path):
    text, message = HOSTILE[name]
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / "c.yaml")
    assert message in str(error.value) and len(str(error.value)) < 700


def test_a_configuration_that_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path, "a folder"), (tmp_path / "pipe", "a named pipe"), (Path("/dev/zero"), "a device")):
        with pytest.raises(ConfigError, match=f"cannot be read: {kind}, not a file"):
            load_config(path)


def test_the_run_is_named_by_what_its_weights_depend_on():
    one = Config()
    assert one.run == Config(use_tta=True, eval_batch_size=3).run
    assert one.run == Config(gpu_profile="t4", micro_batch=2, gradient_checkpointing="never").run
    assert one.run != Config(learning_rate=2e-4).run
    assert Config(batch_size=2, grad_accum_steps=2).run == one.run, "only the effective batch matters to the weights"
    assert Config(run_name="mine").run == "mine"


# computed with version 0.1
NAMES_IN_0_1 = {
    "qwen2.5-vl-3b-instruct-384px-09ec87aa": {},
    "tiny-112px-b045bf6a": dict(model_id="tiny", image_size=112),
    "qwen2.5-vl-7b-instruct-512px-5154ea38": PRESETS["best"],
    "qwen2.5-vl-3b-instruct-384px-90d2a910": PRESETS["quick"],
    "qwen2.5-vl-3b-instruct-384px-0d959536": PRESETS["single"],
    "qwen2.5-vl-3b-instruct-384px-eae5fdb6": PRESETS["ensemble"],
    "qwen2.5-vl-3b-instruct-384px-0ef04aa6": dict(batch_size=2, grad_accum_steps=8, learning_rate=3e-4),
    "내 모델-384px-82e20f8f": dict(
        model_id="models/내 모델/", lora_r=0, train_orders=4, order_consistency=0.5, target_modules=("q_proj", "v_proj")),
    "qwen2.5-vl-3b-instruct-384px-67b446f2": dict(use_tta=True, seed=7, swa_start_epoch=2, use_swa=True),
}


class NextConfig(Config):
    """A later version, with a setting that trained weights depend on."""

    layer_decay: float = Field(default=1.0, ge=0.0, le=1.0, json_schema_extra=WEIGHTS, description="decay by layer")


@pytest.mark.parametrize("version", [Config, NextConfig])
@pytest.mark.parametrize("name", NAMES_IN_0_1)
def test_runs_keep_the_names_that_version_0_1_gave_them(name, version):
    assert version(**NAMES_IN_0_1[name]).run == name


def test_adapters_everywhere_are_the_default_of_0_1():
    """Which lists the seven linear layers of Qwen's language models: names of runs and settings of old ones stay."""
    assert Config().weight_settings()["target_modules"] == LANGUAGE_PROJECTIONS
    assert Config(target_modules=LANGUAGE_PROJECTIONS) == Config() and Config().target_modules == ("all-linear",)
    some = Config(target_modules="linear_attn.out_proj, experts")
    assert some.weight_settings()["target_modules"] == ("linear_attn.out_proj", "experts") and some.run != Config().run


def test_a_new_setting_renames_only_the_runs_that_use_it():
    assert NextConfig(layer_decay=0.9).run not in (Config().run, NextConfig(layer_decay=0.8).run)
    assert weight_changes(Config().as_dict(), NextConfig(layer_decay=0.9)) == ["  layer_decay: was 1.0, now 0.9"]
    assert weight_changes(Config(lora_r=4).as_dict(), NextConfig()) == ["  lora_r: was 4, now 8"]


@given(st.dictionaries(st.sampled_from(list(Config.settings())),
                       st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
                                 st.lists(st.integers(-2, 9), max_size=3)), max_size=3))
def test_any_value_is_taken_or_refused_with_a_config_error(values):
    try:
        config = Config(**values)
    except ConfigError:
        return
    assert load_config(changes=yaml.safe_load(config.to_yaml())) == config
