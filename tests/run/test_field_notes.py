"""What public solutions got wrong, what this design promises, and where each is tested.

Bugs (FIELD_NOTES, "What public solutions got wrong"):
 1. One model trained across all folds.
    tests/model/test_load.py::test_adapters_are_fresh_each_time_and_leave_the_base_as_it_was
    tests/run/test_steps.py::test_the_same_seed_gives_the_same_submission_in_another_folder (fold 1 trained alone is the same)
    tests/run/test_steps.py::test_all_weights_of_a_fold_start_anew_too
 2. Loss over the whole sequence.
    tests/run/test_field_notes.py::test_a_step_learns_the_answer_token_and_nothing_else
 3. The gold answer in validation rows.
    tests/run/test_steps.py::test_the_answer_of_a_validation_row_changes_nothing_that_is_read
    tests/model/test_prompt.py::test_the_answer_is_the_assistants_message_and_never_in_the_prompt
 4. Generated text searched for a letter, "a" when none is found.
    tests/scoring/test_score.py::test_the_baseline_generates_and_reads
    tests/scoring/test_parse.py::test_cases
    tests/ensemble/test_blend.py::test_free_text_is_read_and_what_is_unclear_counts_as_undecided
 5. A broken image replaced by a white one.
    tests/data/test_images.py::test_truncated_files
    tests/data/test_images.py::test_missing_files_and_folders
    tests/run/test_dataset.py::test_training_rows_without_photograph_are_left_out_and_test_rows_stay
    tests/run/test_steps.py::test_a_missing_photograph_is_left_out_of_training_and_answered_in_the_test
 6. TTA and SWA switches that nothing reads; batch norm renewed where there is none.
    tests/test_config.py::test_every_field_is_read
    tests/scoring/test_score.py::test_the_plan
    tests/run/test_steps.py::test_other_tta_settings_score_again_and_do_not_train_again
    tests/training/test_loop.py::test_a_fold_runs_and_leaves_best_and_last
    tests/run/test_field_notes.py::test_there_is_no_batch_norm_to_renew
 7. EMA without warm-up.
    tests/training/test_average.py::test_an_ema_of_300_steps_has_forgotten_the_untrained_weights
 8. The last accumulation window thrown away.
    tests/training/test_loop.py::test_every_row_counts_in_every_epoch_the_last_window_too
    tests/run/test_field_notes.py::test_a_last_small_window_is_a_step_of_its_own_size
 9. The file's tail, or training rows, as validation.
    tests/data/test_folds.py::test_single_split_is_a_share_of_all_parts_of_the_file
    tests/run/test_dataset.py::test_a_single_split_trains_on_everything_else
    tests/run/test_dataset.py::test_what_is_trained_on_never_meets_what_is_validated
10. Ties to the first letter; weights tuned on few rows.
    tests/ensemble/test_blend.py::test_last_ties_are_spread_by_the_id_and_not_given_to_the_first_letter
    tests/ensemble/test_blend.py::test_learned_weights_are_not_used_where_they_fit_noise
11. LoRA on the vision tower by accident.
    tests/model/test_load.py::test_lora_on_3b_trains_14966784_parameters
    tests/model/test_load.py::test_bare_suffixes_would_reach_the_vision_tower
12. A vision tower in 4 bits.
    tests/model/test_load.py::test_qlora_learns_on_the_cpu_with_4_bit_weights_in_the_language_model_only
    tests/model/test_load.py::test_a_quantised_vision_tower_is_refused
13. Images shared between train and test, and between folds.
    tests/run/test_dataset.py::test_what_is_trained_on_never_meets_what_is_validated
    tests/data/test_images.py::test_copies_of_photographs_are_found
    tests/data/test_explore.py::test_duplicates_within_and_across_splits
14. Question texts normalised; a space after "Answer:".
    tests/model/test_encode.py::test_what_is_asked_is_not_normalised
    tests/run/test_field_notes.py::test_a_space_before_the_answer_is_part_of_the_prompt
15. The choices "None", "NA" and "null" lost.
    tests/data/test_questions.py::test_words_for_nothing_are_choices_and_ids_stay_text

Invariants (DESIGN):
 1. Training prefix = scoring prefix.
    tests/model/test_encode.py::test_the_training_prefix_is_the_scoring_prefix_and_the_supervised_token_is_the_one_read
    tests/model/test_real_tokenizer.py::test_every_real_question_is_aligned
 2. Logits independent of batch, padding and packing.
    tests/model/test_forward.py::test_logits_do_not_depend_on_batch_padding_or_packing
 3. A step's gradient is the mean over the effective batch.
    tests/training/test_loop.py::test_the_gradient_is_the_mean_over_the_effective_batch
    tests/run/test_field_notes.py::test_a_last_small_window_is_a_step_of_its_own_size
 4. No image on both sides; fresh adapters; unseen validation rows.
    tests/run/test_dataset.py::test_what_is_trained_on_never_meets_what_is_validated
    tests/data/test_folds.py::test_groups_stay_together_and_every_fold_has_rows
    tests/model/test_load.py::test_adapters_are_fresh_each_time_and_leave_the_base_as_it_was
 5. The same seed gives the same.
    tests/training/test_loop.py::test_the_same_seed_gives_the_same_weights
    tests/run/test_steps.py::test_the_same_seed_gives_the_same_submission_in_another_folder
 6. A submission is valid or not written.
    tests/report/test_submission.py::test_whatever_is_written_validates_and_any_change_is_seen
    tests/run/test_steps.py::test_submissions_are_valid
 7. Cached features equal live ones; their key.
    tests/model/test_vision.py::test_cached_features_equal_live_ones
    tests/model/test_vision.py::test_the_key_changes_with_everything_the_features_depend_on
 8. Each field of Config is read.
    tests/test_config.py::test_every_field_is_read
"""
import ast
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mcvqa.base.files import RunLog
from mcvqa.model.device import plan_device
from mcvqa.model.load import remove_adapters
from mcvqa.model.rows import training_row
from mcvqa.model.text.encode import Encoder
from mcvqa.run.dataset import read_data
from mcvqa.run.folds import split_rows
from mcvqa.run.model_side import ModelSide
from mcvqa.run.project import open_project
from mcvqa.training.job import FoldJob
from tests.conftest import tiny_settings
from tests.training.fold import Fold

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def side(dataset, tmp_path_factory) -> ModelSide:
    project = open_project(tiny_settings(tmp_path_factory.mktemp("side"), data_dir=str(dataset), n_folds=2))
    data = split_rows(read_data(project), project.config)
    side = ModelSide(project, data, plan_device(project.config), keep_features=True)
    side.make_features([q.image for q in data.train], 1.0)
    return side


@pytest.fixture
def bench(side):
    """The base model, its maker of batches, and the training rows."""
    loaded = side.load()
    return SimpleNamespace(base=loaded.base, maker=loaded.maker, train=side.data.train, config=side.project.config)


@pytest.mark.parametrize(("file", "name"), re.findall(r"(tests/\S+\.py)::(\w+)", __doc__))
def test_each_test_named_above_exists(file, name):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.fixture
def make_trainer(bench, tmp_path):
    """make_trainer(rows, **settings) -> a Fold."""
    made = []

    def make(rows, **changes) -> Fold:
        config = bench.config.replace(**changes)
        log = RunLog(tmp_path / f"{len(made)}.jsonl")
        made.append(Fold(FoldJob(config, bench.base, bench.maker, rows, rows, 0, tmp_path / str(len(made)), log)))
        return made[-1]

    yield make
    remove_adapters(bench.base, made[-1].stepper.model)


def test_a_step_learns_the_answer_token_and_nothing_else(bench, make_trainer):
    """Loss and gradient of a step are those of the library with every label but the answer's masked."""
    question, maker = bench.train[0], bench.maker
    trainer = make_trainer([question])
    row = training_row(maker, question, 0, trainer.config)
    ours = trainer.ready.backward(maker.batch([row]), 1.0)
    gradients = {name: p.grad.clone() for name, p in trainer.state.parameters.items()}
    trainer.stepper.model.zero_grad()

    answer = int(row.letters[0, question.answer])
    ids = torch.tensor([[*row.input_ids.tolist(), answer]])
    labels = torch.full_like(ids, -100)
    labels[0, -1] = answer
    theirs = trainer.stepper.model(
        input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=(ids == bench.base.image_token_id).int(),
        pixel_values=maker.images.patches(row.image), image_grid_thw=torch.tensor([row.grid]), labels=labels,
    ).loss
    theirs.backward()
    torch.testing.assert_close(ours, theirs.detach(), atol=1e-5, rtol=1e-5)
    assert max(g.abs().max() for g in gradients.values()) > 0
    for name, p in trainer.state.parameters.items():
        # float32 in another order of additions: 1.2e-5 of a tensor's largest value here, 2.0e-5 by the library's own layers
        torch.testing.assert_close(gradients[name], p.grad, atol=1e-4 * float(p.grad.abs().max()), rtol=0, msg=name)


def test_a_last_small_window_is_a_step_of_its_own_size(bench, make_trainer, tmp_path):
    """Three rows left over from a batch of eight are averaged over three, in whatever micro-batches."""
    steps = []
    for size, times in ((3, 1), (2, 4)):
        trainer = make_trainer(bench.train[:3], batch_size=size, grad_accum_steps=times, num_epochs=1)
        remove_adapters(bench.base, trainer.change(folder=tmp_path / str(size)).run().model)
        steps += trainer.log.events("step")
    assert len(steps) == 2
    for figure in ("loss", "grad_norm"):
        assert steps[0][figure] == pytest.approx(steps[1][figure], rel=1e-4)


def test_there_is_no_batch_norm_to_renew(bench):
    """Averaged weights need no second pass over the data: no module keeps statistics of it."""
    assert not [m for m in bench.base.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def test_a_space_before_the_answer_is_part_of_the_prompt(bench):
    """'Answer: ' makes the model read at a space: so the letter is learned there too, by itself, not joined to the space."""
    class WithSpace:
        def __init__(self, tokenizer):
            self._tokenizer = tokenizer

        def __getattr__(self, name):
            return getattr(self._tokenizer, name)

        def apply_chat_template(self, messages, *, add_generation_prompt, **options):
            text = self._tokenizer.apply_chat_template(messages, add_generation_prompt=add_generation_prompt, **options)
            return text + "Answer: " if add_generation_prompt else text

    base = bench.base
    encoder = Encoder(WithSpace(base.tokenizer), bench.config, image_token_id=base.image_token_id, merge=base.merge)
    question = bench.train[0]
    prompt, trained = (encoder.prompt_tokens(question, range(4), None, answer) for answer in (None, "b"))
    assert base.tokenizer.decode(prompt).endswith("Answer: ") and encoder.encode(question).input_ids.tolist() == prompt
    assert trained == [*prompt, base.encoder.letter_tokens[1]] and not encoder.rendered
