"""Config: names, checks, presets, files; and that every field is read by something."""
import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mcvqa.config import PRESETS, Config, ConfigError, load_config, parse_changes

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


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Config)])
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


@pytest.mark.parametrize(("name", "value", "told"), [
    ("num_epochs", -1, "num_epochs=-1 is out of range: 0 to 1000"),
    ("lora_dropout", 1.5, "lora_dropout=1.5 is out of range: 0.0 to 0.9"),
    ("image_size", "big", "image_size='big' is no whole number"),
    ("use_ema", "maybe", "use_ema='maybe' is no true or false"),
    ("tta_scales", (0.9, 9.0), "tta_scales=9.0 is out of range"),
    ("user_prompt", "no places", "must contain"),
    ("user_prompt", "{question} {options} {anwser}", "unknown places"),
    ("run_name", "../up", "no folder name"),
    ("learning_rate", "nan", "no number"),
])
def test_impossible_values_name_field_value_and_range(name, value, told):
    with pytest.raises(ConfigError) as error:
        Config(**{name: value})
    assert told in str(error.value)


def test_a_fold_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="there are folds 0 to 2"):
        Config(train_folds=(3,))


def test_settings_that_need_each_other_are_told():
    with pytest.raises(ConfigError, match="needs shuffle_choices=true"):
        Config(train_orders=2, shuffle_choices=False)
    with pytest.raises(ConfigError, match="set train_orders to 2 or more"):
        Config(order_consistency=0.5)


def test_checkpointing_is_read_from_older_files_too():
    for written, meant in ((True, "always"), ("false", "never"), ("auto", "auto")):
        assert Config(gradient_checkpointing=written).gradient_checkpointing == meant
    with pytest.raises(ConfigError, match="gradient_checkpointing='sometimes' is none of auto, always, never"):
        Config(gradient_checkpointing="sometimes")


def test_text_values_are_converted():
    config = Config().replace(**parse_changes(["NUM_EPOCHS=3", "USE_TTA=yes", "TTA_SCALES=0.9,1.0, 1.1", "train_folds=[0, 2]"]))
    assert (config.num_epochs, config.use_tta, config.tta_scales, config.train_folds) == (3, True, (0.9, 1.0, 1.1), (0, 2))
    with pytest.raises(ConfigError, match="name=value"):
        parse_changes(["NUM_EPOCHS"])


def test_presets_are_the_seeds_table():
    quick, single, ensemble, best = (load_config(preset=name) for name in ("quick", "single", "ensemble", "best"))
    assert (quick.use_sample, quick.sample_size, quick.num_epochs, quick.use_kfold) == (True, 200, 1, False)
    assert (single.use_sample, single.num_epochs, single.use_kfold, single.model_id) == (
        False, 3, False, "Qwen/Qwen2.5-VL-3B-Instruct")
    assert (ensemble.use_sample, ensemble.num_epochs, ensemble.n_folds, ensemble.use_kfold) == (False, 3, 3, True)
    assert (best.num_epochs, best.n_folds, best.model_id, best.image_size) == (5, 3, "Qwen/Qwen2.5-VL-7B-Instruct", 512)
    assert best.use_ema and best.use_swa and best.use_tta and best.tta_scales == (0.9, 1.0, 1.1)
    assert (best.batch_size, best.grad_accum_steps) == (1, 4)
    assert set(PRESETS) == {"quick", "single", "ensemble", "best", "demo"}


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


def test_the_run_is_named_by_what_its_weights_depend_on():
    one = Config()
    assert one.run == Config(use_tta=True, eval_batch_size=3).run
    assert one.run == Config(gpu_profile="t4", micro_batch=2, gradient_checkpointing="never").run
    assert one.run != Config(learning_rate=2e-4).run
    assert Config(batch_size=2, grad_accum_steps=2).run == one.run, "only the effective batch matters to the weights"
    assert Config(run_name="mine").run == "mine"


@given(st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(Config)]),
                       st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
                                 st.lists(st.integers(-2, 9), max_size=3)), max_size=3))
def test_any_value_is_taken_or_refused_with_a_config_error(values):
    try:
        config = Config(**values)
    except ConfigError:
        return
    assert load_config(changes=yaml.safe_load(config.to_yaml())) == config
