"""What is searched: a YAML that a person reads and changes, with one clear line for each mistake in it."""
import pytest
import yaml

from mcvqa.config import Config, ConfigError
from mcvqa.search.space import (
    default_space,
    own_values,
    read_space,
    searched_settings,
    set_by_hand,
    space_as_yaml,
    with_searched,
)


def test_the_default_space_is_a_file_that_can_be_read_back_and_holds_the_settings_there_are(tmp_path):
    config = Config(image_size=448)
    file = tmp_path / "space.yaml"
    file.write_text(space_as_yaml(default_space(config)))
    assert read_space(file) == default_space(config)
    searched = searched_settings(read_space(file), config, ())
    assert own_values(searched, config) == {one.name: getattr(config, one.name) for one in searched}
    assert [one.name for one in searched] == [
        "learning_rate", "lora_r", "lora_alpha", "lora_dropout", "num_epochs", "effective_batch", "image_size", "train_orders",
        "label_smoothing", "loss", "lr_schedule",
    ]


def test_no_adapters_no_ranks():
    assert not any(name.startswith("lora_") for name in default_space(Config(lora_r=0, lora_dropout=0.0)))
    assert "train_orders" not in default_space(Config(shuffle_choices=False))


@pytest.mark.parametrize(("text", "message"), [
    ("learnin_rate: [1.0e-4]", "no setting 'learnin_rate'. Did you mean 'learning_rate'"),
    ("learnin_rate: {low: 1e-4, high: 1e-3}", "no setting 'learnin_rate'. Did you mean 'learning_rate'"),
    ("lora_r: [4, 5000]", "lora_r=5000 is out of range: 0 to 1024"),
    ("loss: [voices]", "loss='voices' is not one of"),
    ("n_folds: [3, 5]", "n_folds cannot be searched: it selects rows"),
    ("eval_batch_size: [3, 5]", "trained weights do not depend on it"),
    ("batch_size: [3, 5]", "search effective_batch instead of batch_size"),
    ("effective_batch: [0, 4]", "effective_batch=0 is not a whole number of rows"),
    ("num_epochs: {low: 0, high: 2}", "num_epochs=0 trains nothing"),
    ("num_epochs: {low: 1.5, high: 2}", "num_epochs=1.5 is invalid: expected a whole number"),
    ("num_epochs: {low: 2, high: 2}", "whole numbers, low below high"),
    ("learning_rate: {low: .nan, high: 0.1}", "learning_rate=nan is invalid: expected a number"),
    ("use_ema: {low: 0, high: 1}", "write use_ema: [one, another]"),
    ("loss: {low: 1, high: 2}", "write loss: [one, another]"),
    ("lora_r: [8]\nseed: [1]\nLORA_R: [16]", "'lora_r' is defined twice, the second time in line 3"),
    ("learning_rate: {low: 0.001, high: 0.01, low: 0.002}", "'low' is defined twice, the second time in line 1"),
    ("learning_rate: {low: 0.0, high: 0.1, log: true}", "above 0 with log: true"),
    ("learning_rate: {low: 0.1, high: 0.001}", "low below high"),
    ("learning_rate: {low: 0.001, hihg: 0.1}", "neither"),
    ("learning_rate: 0.1", "neither"),
    ("lora_r: []", "neither"),
    ("- lora_r", "must contain lines such as"),
    ("", "must contain lines such as"),
    ("lora_r: [4", "is not valid YAML"),
    ("use_rslora: [true, false]\nuse_dora: [1, 2]", "use_dora=2"),
    ("order_consistency: [0.5]\nlora_r: [4, 8]", "order_consistency compares several orders"),
])
def test_a_mistake_is_named_in_one_line_with_the_file(tmp_path, text, message):
    file = tmp_path / "space.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        searched_settings(read_space(file), Config(), (), str(file))
    assert message in str(error.value) and str(file) in str(error.value) and "\n" not in str(error.value)


def test_numbers_that_yaml_takes_for_text_are_numbers(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text("learning_rate: {low: 1e-5, high: 1e-3}\nweight_decay: [0, 1e-2]\nlora_r: [8.0, 16]\nuse_ema: [0, 1]")
    rate, decay, rank, ema = searched_settings(read_space(file), Config(), ())
    assert (rate.low, rate.high) == (1e-5, 1e-3) and decay.values == (0.0, 0.01)
    assert repr(rank.values) == "(8, 16)" and repr(ema.values) == "(False, True)"


def test_a_file_in_another_encoding_is_refused_in_words(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_bytes("lora_r: [4, 8]  # 랭크\n".encode("cp949"))
    with pytest.raises(ConfigError, match=r"space\.yaml is not valid YAML: save it in UTF-8$"):
        read_space(file)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"search space .*none\.yaml cannot be read"):
        read_space(tmp_path / "none.yaml")


def test_a_value_may_need_one_of_another_setting():
    space = {"order_consistency": [0.0, 0.5], "train_orders": [1, 2]}
    assert len(searched_settings(space, Config(), ())) == 2
    with pytest.raises(ConfigError, match="num_epochs=0 trains nothing"):
        searched_settings(space, Config(num_epochs=0), ())


def test_what_was_set_by_hand_stays_fixed(tmp_path):
    space = {"learning_rate": {"low": 1e-5, "high": 1e-3}, "effective_batch": [4, 8], "lora_r": [4, 8]}
    names = [one.name for one in searched_settings(space, Config(), {"learning_rate", "batch_size"})]
    assert names == ["lora_r"]
    with pytest.raises(ConfigError, match="set by hand"):
        searched_settings(space, Config(), {"learning_rate", "grad_accum_steps", "lora_r"})
    with pytest.raises(ConfigError, match="no effect with lora_r=0"):
        searched_settings({"lora_alpha": [1, 2]}, Config(lora_r=0), {"lora_r"})
    few, whole = tmp_path / "few.yaml", tmp_path / "config.yaml"
    few.write_text("LEARNING_RATE: 1.0e-4\n")
    whole.write_text(Config(lora_r=32).to_yaml())
    assert set_by_hand(few, ["seed"]) == {"learning_rate", "seed"}, "the default, written by a person, is a choice"
    assert set_by_hand(whole, []) == {"lora_r"}, "a run's config.yaml names all settings"
    assert set_by_hand(None, ["loss"]) == {"loss"}


@pytest.mark.parametrize(("batch", "rows", "made"), [(1, 32, (1, 32)), (8, 32, (8, 4)), (8, 12, (4, 3)), (16, 4, (4, 1))])
def test_rows_of_a_step_are_divided_as_the_batch_was(batch, rows, made):
    config = with_searched(Config(batch_size=batch), {"effective_batch": rows})
    assert (config.batch_size, config.grad_accum_steps) == made and config.effective_batch == rows


def test_numbers_are_drawn_as_a_person_would_write_them():
    rate, rank = searched_settings({"learning_rate": {"low": 1.2345e-4, "high": 1e-3}, "lora_r": [4, 8]}, Config(), ())
    assert rate.rounded(0.000345678) == 0.000346 and rate.rounded(1.2346e-4) == 1.2345e-4, "within the range"
    assert rank.rounded(8) == 8
    prompts = {"system_prompt": ["그림을 보고 {letters}", "{letters}?"]}
    assert yaml.safe_load(space_as_yaml(prompts)) == prompts
