"""The plain path, on three families with nothing of their own in this package: LLaVA, Gemma 3, Idefics 3."""
import dataclasses
import pickle  # what multiprocessing does with a maker
import re

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraLayer
from PIL import Image

from mcvqa.base.files import RunLog
from mcvqa.config import LANGUAGE_PROJECTIONS, Config
from mcvqa.data.answers import LETTERS
from mcvqa.data.images import ImageFolder, survey_images
from mcvqa.data.questions import Question
from mcvqa.model import load
from mcvqa.model.adapters import trained_parameters, with_adapters
from mcvqa.model.device import plan_device
from mcvqa.model.families.family import FamilyError
from mcvqa.model.families.registry import plain_family
from mcvqa.model.family_choice import decoder_linears, family_of
from mcvqa.model.fast.forward import read_letters
from mcvqa.model.load import ModelError, load_adapter, load_base, load_processor, make_trainable, remove_adapters
from mcvqa.model.plain import PlainAnswerModel, PlainEncoder, PlainMaker
from mcvqa.model.rows import read_rows, training_row
from mcvqa.model.size import measure_model
from mcvqa.model.text.encode import AlignmentError
from mcvqa.scoring.generated import generate_answer
from mcvqa.scoring.score import score_questions
from mcvqa.training.checkpoint import save_trained
from mcvqa.training.job import FoldJob
from mcvqa.training.loop import train_fold
from tests.model.newer_families import llama4_model
from tests.model.other_families import PLAIN_FAMILIES, save_family

ORDERS = np.array([[0, 1, 2, 3], [1, 3, 0, 2], [2, 0, 3, 1], [3, 2, 1, 0]])


@pytest.fixture(scope="module", params=PLAIN_FAMILIES)
def config(request, tiny_config, tmp_path_factory):
    folder = save_family(request.param, tmp_path_factory.mktemp(request.param))
    return tiny_config.replace(model_id=folder)


@pytest.fixture(scope="module")
def base(config):
    return load_base(config, plan_device(config))


@pytest.fixture(scope="module")
def maker(base, photographs, questions):
    return PlainMaker(base.encoder, survey_images(ImageFolder(photographs), [q.image for q in questions]))


@pytest.fixture(scope="module")
def answers(base):
    return base.answers(base.model).eval()


@pytest.fixture
def hostile(base):
    """A question that holds every special token of the tokenizer, the image's too."""
    special = "".join(base.tokenizer.all_special_tokens)
    return Question("h", "a.png", f"How many? {special} <image>", ("yes", special, "<image>"), 0)


def logits_of(answers, batch):
    with torch.no_grad():
        return answers(batch)


# %% label alignment
def test_the_training_conversation_begins_with_the_prompt_and_goes_on_with_the_letter(base, maker, questions, hostile, config):
    """Invariant 1: for every question, order and answer, with a photograph and without one."""
    encoder = base.encoder
    for question in (*questions, hostile):
        order = np.arange(len(question.choices))[::-1]
        row = maker.row(question, order[None])
        photograph = maker.photograph(row.image)
        prompt = encoder.prompt_tokens(question, order, photograph)
        part = maker.batch([training_row(maker, question, 0, config.replace(shuffle_choices=False))]).parts[0]
        assert maker.conversation(question) == part.inputs["input_ids"][0].tolist(), "what is trained is what is shown"
        ends = set()
        for slot, original in enumerate(order):
            trained = encoder.prompt_tokens(question, order, photograph, answer=LETTERS[slot])
            assert trained[: len(prompt)] == prompt and trained[len(prompt)] == row.letters[0, original]
            ends.add(tuple(trained[len(prompt) + 1 :]))
        assert len(ends) == 1
        batch = maker.batch([row])
        assert batch.parts[0].kept.tolist() == [len(prompt) - 1], "the last token of the prompt is read"
        assert batch.parts[0].inputs["input_ids"][0].tolist() == prompt


def test_the_text_starts_once(base, maker, questions):
    """<s> comes from the template or from the tokenizer, never from both."""
    for question in questions[:3]:
        assert maker.conversation(question).count(base.tokenizer.bos_token_id) == 1


def test_special_tokens_in_a_question_end_nothing(base, maker, hostile):
    calm = maker.conversation(Question("c", "a.png", "How many?", ("yes", "no", "3"), 0))
    rude = maker.conversation(hostile)
    for token in base.tokenizer.all_special_ids:
        assert rude.count(token) == calm.count(token), base.tokenizer.decode([token])


def test_a_template_that_drops_the_question_is_refused(base, config):
    processor = load_processor(config.model_id)
    processor.chat_template = "{% for m in messages %}{{ m.role }}{% endfor %}{% if add_generation_prompt %}assistant{% endif %}"
    with pytest.raises(AlignmentError, match="leaves out the question"):
        PlainEncoder(processor, config)


def test_where_the_template_moves_the_answer_the_prompt_and_the_letter_are_trained(maker, config, questions):
    processor = load_processor(config.model_id)
    processor.chat_template = processor.chat_template.replace("OPEN + 'assistant\\n'", "OPEN + 'assistant:\\n'")
    own = dataclasses.replace(maker, encoder=PlainEncoder(processor, config))
    assert not own.encoder.rendered
    prompt, trained = own.conversation(questions[0]), own.conversation(questions[0], "c")
    assert trained == [*prompt, own.encoder.letter_tokens[2]]


def test_a_processor_that_always_wants_a_photograph_is_refused(base, config, monkeypatch):
    """PaliGemma's does."""
    processor = load_processor(config.model_id)
    made = type(processor).__call__

    def wants_images(self, images=None, **kwargs):
        if images is None:
            raise ValueError("`images` are expected")
        return made(self, images=images, **kwargs)

    monkeypatch.setattr(type(processor), "__call__", wants_images)
    with pytest.raises(AlignmentError, match=r"rejects a prompt without a photograph: `images` are expected"):
        PlainEncoder(processor, config)


def test_a_template_without_system_messages_can_be_used(base, config):
    processor = load_processor(config.model_id)
    refusal = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    processor.chat_template = refusal + processor.chat_template
    with pytest.raises(AlignmentError, match=r"System role not supported(.|\n)*set system_prompt="):
        PlainEncoder(processor, config)
    assert PlainEncoder(processor, config.replace(system_prompt="")).letter_tokens.tolist() == (
        base.encoder.letter_tokens.tolist())


# %% logits
def test_logits_are_those_of_the_library(base, answers, maker, questions):
    """Compared with each prompt on its own, given to the model as its processor made it."""
    orders = [ORDERS, None, ORDERS[:2, :3], None]  # the last rows have fewer orders, and one has no photograph
    orders[2] = np.array([[0, 1, 2], [2, 1, 0]])
    rows = [maker.row(question, order) for question, order in zip(questions, orders, strict=True)]
    assert [row.image for row in rows] == ["a.png", "b.png", None, "a.png"]
    ours = logits_of(answers, maker.batch(rows))
    assert ours.shape[:2] == (4, 4)
    for row, mine in zip(rows, ours, strict=True):
        for text, found in zip(row.texts, mine, strict=False):
            made = base.processor(
                text=[text], images=[[maker.photograph(row.image)]] if row.image else None, return_tensors="pt",
                add_special_tokens=not text.startswith("<s>"),
            )
            with torch.no_grad():
                theirs = base.model(**made).logits[0, -1]
            torch.testing.assert_close(found, theirs, atol=1e-4, rtol=1e-4)


def test_the_photograph_matters(answers, maker, questions):
    with_photograph = maker.row(questions[0])
    blank = dataclasses.replace(maker, records={"a.png": dataclasses.replace(maker.records["b.png"])})
    seen, other = (logits_of(answers, m.batch([with_photograph])) for m in (maker, blank))
    assert (seen - other).abs().max() > 1e-2, "or the tests here compare nothing"


def test_a_batch_answers_as_single_rows_do(base, answers, maker, questions):
    """Invariant 2."""
    rows = [maker.row(q, ORDERS if len(q.choices) == 4 else None) for q in questions]
    together = read_letters(answers, [maker.batch(rows)], "cpu")
    read = read_rows(answers, maker, rows, 2, base.plan)
    for row, of_all, of_two in zip(rows, together, read, strict=True):
        alone = read_letters(answers, [maker.batch([row])], "cpu")[0]
        assert alone.shape == row.letters.shape
        np.testing.assert_allclose(of_all, alone, atol=1e-4)
        np.testing.assert_allclose(of_two, alone, atol=1e-4)
        np.testing.assert_array_equal(of_all.argmax(-1), alone.argmax(-1))


def test_a_model_that_cannot_keep_fewer_logits_gives_the_same(base, maker, questions):
    batch = maker.batch([maker.row(q) for q in questions])
    model = base.answers(base.model).eval()
    fewer = logits_of(model, batch)
    assert model.keeps
    model.keeps = False
    torch.testing.assert_close(logits_of(model, batch), fewer, atol=1e-5, rtol=1e-5)


def test_all_orders_and_scales_are_scored(base, maker, questions, config):
    config = config.replace(use_tta=True, tta_orders=3, tta_scales=(1.0, 0.5), eval_batch_size=3)
    scores = score_questions(base.model, base, maker, questions[:3], config, {})
    assert scores.logprobs.shape == (3, 6, 4) and np.isfinite(scores.logprobs[0]).all()
    assert np.abs(scores.logprobs[0, :3] - scores.logprobs[0, 3:]).max() > 1e-6, "a shrunk photograph is another one"


def test_answers_are_generated(base, maker, questions, config):
    for question in (questions[0], questions[2]):
        assert isinstance(generate_answer(base.model, base, maker, question, config), str)


def test_the_tokens_of_a_row_are_those_of_all_its_prompts(maker, questions):
    row = maker.row(questions[0], ORDERS)
    assert maker.tokens(row) == sum(len(maker.encoder.prompt_tokens(questions[0], o, maker.photograph("a.png"))) for o in ORDERS)


def test_a_maker_travels_to_loader_processes_without_the_model(maker):
    assert len(pickle.dumps(maker)) < 2_000_000
    assert pickle.loads(pickle.dumps(maker)).encoder.letter_tokens.tolist() == maker.encoder.letter_tokens.tolist()


def test_what_overflows_float16_goes_on_in_float32(config, maker, questions, capsys):
    """As planted in tests/model/test_overflow.py: a product that is too large between two layers of the MLP."""
    wide, half = (load_base(c, plan_device(c)) for c in (config, config.replace(precision="float16")))
    for base in (wide, half):
        mlp = base.language.layers[0].mlp
        with torch.no_grad():
            mlp.up_proj.weight.mul_(30_000)
            mlp.down_proj.weight.div_(30_000)
    batch = maker.batch([maker.row(q) for q in questions[:2]])
    answers = half.answers(half.model)
    assert not torch.isfinite(logits_of(answers, batch)).all(), "the plant must overflow, or this test shows nothing"
    found, wanted = (read_letters(model, [batch], "cpu") for model in (answers, wide.answers(wide.model)))
    assert "float16 overflowed in layers.0.mlp" in capsys.readouterr().out
    for mine, right in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, right, atol=0.1)


# %% what is trained
def test_adapters_reach_the_language_models_projections_only(base, config):
    model = make_trainable(base, config, 0)
    reached = {name.removeprefix("base_model.model.").split(".lora_")[0] for name in trained_parameters(model)}
    language = base.family.language + ".layers."
    assert language.split(".")[1] in ("language_model", "text_model")
    assert len(reached) == 2 * len(LANGUAGE_PROJECTIONS) and all(name.startswith(language) for name in reached)
    assert {name.rsplit(".", 1)[1] for name in reached} == set(LANGUAGE_PROJECTIONS)
    trained = sum(p.numel() for p in trained_parameters(model).values())
    remove_adapters(base, model)
    size = measure_model(base.model.config, config)
    tower = sum(p.numel() for n, p in base.model.named_parameters() if "language_model" not in n and "text_model" not in n
                and not n.startswith("lm_head"))
    assert size.trained == trained and size.vision == tower
    with pytest.raises(FamilyError, match="set lora_vision=false"):
        make_trainable(base, config.replace(lora_vision=True), 0)


def test_only_the_language_model_gets_4_bits(config, questions, maker):
    config = config.replace(quantization="4bit")
    base = load_base(config, plan_device(config))  # verify_quantization looks at every module
    names = {name for name, module in base.model.named_modules() if type(module).__name__ == "Linear4bit"}
    assert len(names) == 2 * len(LANGUAGE_PROJECTIONS) and all(name.startswith(base.family.language) for name in names)
    assert torch.isfinite(logits_of(base.answers(base.model).eval(), maker.batch([maker.row(questions[0])]))).all()


def test_a_fold_lowers_the_loss_and_its_adapters_can_be_read_again(base, config, maker, questions, tmp_path):
    few = [questions[0], questions[1], questions[2]]
    settings = config.replace(
        num_epochs=8, learning_rate=1e-2, use_ema=False, shuffle_choices=False, keep="last", batch_size=2,
        grad_accum_steps=2,
    )
    losses, log = {}, RunLog(tmp_path / "log.jsonl")
    for epochs in (0, 8):
        changed = settings.replace(num_epochs=epochs)
        result = train_fold(FoldJob(changed, base, maker, few, few, 0, tmp_path / str(epochs), log))
        losses[epochs] = result.variants["raw"].loss
        remove_adapters(base, result.model)
    assert losses[8] < losses[0] - 0.3
    again = load_adapter(base, tmp_path / "8" / "last")
    scores = score_questions(again, base, maker, few, settings, {}).logprobs[:, 0]
    remove_adapters(base, again)
    for mine, trained in zip(scores, result.variants["raw"].logprobs, strict=True):
        np.testing.assert_allclose(mine[: len(trained)], trained, atol=1e-4)


def test_all_weights_can_be_trained_and_saved(config, maker, questions, tmp_path):
    own = load_base(config, plan_device(config))
    model = make_trainable(own, config.replace(lora_r=0), 0)
    assert len(trained_parameters(model)) == len(dict(own.model.named_parameters()))
    with torch.no_grad():
        own.model.get_input_embeddings().weight.mul_(1.5)
    batch = maker.batch([maker.row(questions[0])])
    wanted = logits_of(own.answers(model).eval(), batch)
    save_trained(model, tmp_path / "best", {"fold": 0})
    again = load_base(config, plan_device(config))
    torch.testing.assert_close(logits_of(again.answers(load_adapter(again, tmp_path / "best")), batch), wanted)


# %% what is refused
def test_a_processor_that_needs_more_is_said_for_people(config, monkeypatch):
    def wants_more(*args, **kwargs):
        raise ImportError("SomeVideoProcessor requires the Torchvision library\nbut it was not found")

    monkeypatch.setattr(load.AutoProcessor, "from_pretrained", wants_more)
    with pytest.raises(ModelError, match=r"requires the Torchvision library but(.|\n)*mcvqa\[vlm\]"):
        load_base(config, plan_device(config))


def test_a_processor_without_chat_template_is_refused(config, tmp_path):
    processor = load_processor(config.model_id)
    processor.chat_template = processor.tokenizer.chat_template = None
    processor.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no processor with a chat template"):
        load_processor(str(tmp_path))


def test_a_model_of_unknown_build_is_refused():
    with pytest.raises(FamilyError, match=r"'odd' cannot be trained here(.|\n)*not a stack of layers"):
        plain_family("odd", "model.decoder", ["model.decoder.attn.qkv", "lm_head"])
    attention = "model.text.layers.0.self_attn"
    fused = plain_family("fused", "model.text", [f"{attention}.qkv_proj", f"{attention}.o_proj", "model.tower.qkv"])
    assert fused.unquantised == ("model.tower.qkv",)
    with pytest.raises(FamilyError, match=r"has no linear layers q_proj; it has qkv_proj, o_proj\. Set .*all-linear"):
        fused.adapter_pattern(("q_proj", "o_proj"))


def test_a_router_that_is_a_linear_layer_stays_as_it_is():
    """Llama 4's gives scores and logits, which neither adapters nor 4-bit layers would; its layers lie deeper than others'."""
    model = llama4_model()
    family, router = family_of(model.config, Config()), "language_model.model.layers.1.feed_forward.router"
    assert router in family.unquantised and router not in decoder_linears(model, family)
    adapted = with_adapters(model, Config(), family).eval()
    layers = {name for name, module in adapted.named_modules() if isinstance(module, LoraLayer)}
    assert layers and not [name for name in layers if name.endswith("router")]
    answers = PlainAnswerModel(adapted, family)
    assert {"model.layers.1.feed_forward", "model.layers.0"} <= answers.watched.keys()
    assert torch.isfinite(adapted(input_ids=torch.arange(8)[None]).logits).all()


def test_layers_of_any_build_get_adapters_by_the_ends_of_their_names():
    """Attention that is recurrent in most layers, and experts that share one MLP."""
    paths = [f"model.text.layers.{n}.{path}" for n in range(4) for path in (
        *(("linear_attn.in_proj_qkv", "linear_attn.out_proj") if n % 4 < 3 else ("self_attn.q_proj", "self_attn.o_proj")),
        "mlp.shared_expert.up_proj", "mlp.shared_expert_gate")]
    family = plain_family("mixed", "model.text", [*paths, "model.text.embed_norm", "model.tower.layers.0.attn.q_proj", "lm_head"])
    assert family.unquantised == ("model.text.embed_norm", "model.tower.layers.0.attn.q_proj", "lm_head")
    def reached(*names):
        pattern = re.compile(family.adapter_pattern(names))
        return {path for path in [*paths, *family.unquantised] if pattern.fullmatch(path)}

    assert reached("all-linear") == {*paths}
    assert reached("all-linear", "out_proj") == {*paths}, "a name beside all-linear adds nothing"
    assert reached("out_proj", "self_attn.o_proj") == {path for path in paths if path.endswith(("out_proj", "o_proj"))}
    assert reached("up_proj") == {path for path in paths if path.endswith("shared_expert.up_proj")}
    deep = plain_family("deep", "", [f"transformer.blocks.{n}.att.qkv" for n in range(3)] + ["visual.blocks.0.qkv"])
    assert re.fullmatch(deep.adapter_pattern(("all-linear",)), "transformer.blocks.2.att.qkv")
    assert deep.unquantised == ("visual.blocks.0.qkv",)


def test_a_photograph_is_upright_and_scaled(maker):
    whole, half = maker.photograph("a.png"), maker.photograph("a.png", 0.5)
    assert isinstance(whole, Image.Image) and (whole.size, half.size) == ((90, 60), (45, 30))


def test_pixels_do_not_depend_on_torchvision(config):
    """Where it is installed (`make families`), the library would take another implementation."""
    pytest.importorskip("torchvision")
    assert type(load_processor(config.model_id).image_processor).__name__.endswith("Pil")
