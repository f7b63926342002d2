"""Blocks compute what the library's layers compute, forwards and backwards, and keep less of it."""
import dataclasses

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from mcvqa.base.files import file_hash
from mcvqa.model.adapters import trained_parameters
from mcvqa.model.device import plan_device
from mcvqa.model.fast.block import Block, FrozenWeight, Projections, pack
from mcvqa.model.fast.dropout import draw_dropout
from mcvqa.model.fast.forward import answer_loss
from mcvqa.model.load import load_base, make_trainable
from tests.model.small import ROWS, answering, batch_of, small_model, small_pictures

LANGUAGE = r"model\.language_model\.layers\.\d+\.\w+\.({})"


def adapted(model, targets: str, dropout: float = 0.0, **kind):
    """With adapters that do something already: B is zero when fresh. Args: kind: use_rslora or use_dora."""
    settings = LoraConfig(r=3, lora_alpha=6, lora_dropout=dropout, target_modules=LANGUAGE.format(targets), **kind)
    peft = get_peft_model(model, settings)
    torch.manual_seed(1)
    for name, weight in trained_parameters(peft).items():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.1)
    return peft


def outcome(answers, batch):
    """Loss and gradients."""
    answers.zero_grad()
    torch.manual_seed(2)
    loss = answer_loss(answers(batch), batch).sum()
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in answers.model.named_parameters() if p.grad is not None}


def assert_same(ours, theirs, tolerance=1e-5):
    torch.testing.assert_close(ours[0], theirs[0], atol=tolerance, rtol=tolerance)
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in ours[1].items():
        torch.testing.assert_close(gradient, theirs[1][name], atol=tolerance, rtol=10 * tolerance, msg=name)


def test_gradients_go_on_to_a_vision_tower_that_is_trained():
    model = small_model("qwen2_5_vl").requires_grad_(False)
    model.get_submodule("model.visual.merger").requires_grad_(True)
    answers = answering(adapted(model, "q_proj|up_proj")).train()
    batch = batch_of(ROWS, small_pictures(model))
    for part in model.get_submodule("model.visual.merger").parameters():
        part.requires_grad_(True)
    ours = outcome(answers, batch)
    answers.blocks = nn.ModuleList()
    assert_same(ours, outcome(answers, batch))
    assert any("visual" in name and gradient.abs().max() > 1e-3 for name, gradient in ours[1].items())


@pytest.mark.parametrize("keep", [True, False])
def test_dropout_is_the_same_forwards_and_backwards(keep):
    """The slope along a random direction is what the gradient says, with three tenths of the adapters' inputs dropped."""
    model = small_model("qwen2_5_vl").double().requires_grad_(False)
    answers = answering(adapted(model, "q_proj|v_proj|o_proj|gate_proj|down_proj", dropout=0.3).double()).train()
    answers.set_checkpointing(not keep)
    rows = [dataclasses.replace(row, image=None, grid=None) for row in ROWS if row.image is None]
    batch = batch_of(rows, {})
    loss, gradients = outcome(answers, batch)
    torch.manual_seed(3)
    trained = trained_parameters(answers.model)
    way = {name: torch.randn_like(p) for name, p in trained.items()}

    def moved(by):
        for name, p in trained.items():
            p.data += by * way[name]
        return outcome(answers, batch)[0]

    step = 3e-4  # not less: the logits come in float32
    slope = (moved(step) - moved(-2 * step)) / (2 * step)
    moved(step)
    assert slope == pytest.approx(float(sum((gradients[name] * way[name]).sum() for name in way)), rel=5e-3)
    answers.eval()
    assert outcome(answers, batch)[0] != pytest.approx(float(loss), rel=1e-3), "or nothing was dropped"


def test_what_dropout_keeps_is_made_larger_in_training():
    base = nn.Linear(400, 5)
    model = get_peft_model(nn.Sequential(base), LoraConfig(r=2, lora_alpha=2, lora_dropout=0.25, target_modules=["0"]))
    projections = Projections({"only": model.base_model.model[0]})
    (trained,), (asked,) = (pack([projections], torch.float32, training=training) for training in (True, False))
    torch.testing.assert_close(trained[0] * 0.75, asked[0])


def test_projections_of_one_spec_are_packed_together_and_others_apart():
    """What is packed is what each adapter has, in its rows and ranks, and zero between."""
    model = small_model("qwen2_5_vl").requires_grad_(False)
    peft = adapted(model, "q_proj|v_proj|down_proj")
    layers = [layer.self_attn for layer in peft.get_base_model().model.language_model.layers]
    projections = [Projections(dict(q=one.q_proj, k=one.k_proj, v=one.v_proj)) for one in layers]
    other = Projections(dict(v=layers[0].v_proj), apart=True)
    assert len({one.spec for one in projections}) == 1 and other.spec != projections[0].spec
    assert [adapter.layer for adapter in projections[0].spec.adapters] == ["q", "v"]
    packed = pack([*projections, other, Projections(dict(o=layers[0].o_proj))], torch.float32, training=False)
    for attention, (packed_down, packed_up) in zip(layers, packed[:3], strict=True):
        adapters = [(layer.lora_A["default"], layer.lora_B["default"]) for layer in (attention.q_proj, attention.v_proj)]
        each = [(down.weight, up.weight) for down, up in adapters]
        assert torch.equal(packed_down, torch.cat([2.0 * a for a, _ in each]))
        wanted = torch.zeros(64 + 32 + 32, 6)
        wanted[:64, :3], wanted[96:, 3:] = each[0][1], each[1][1]
        assert torch.equal(packed_up, wanted)
    assert torch.equal(packed[3][1], layers[0].v_proj.lora_B["default"].weight) and packed[4] == ()


@pytest.mark.parametrize("quantization", ["none", "4bit"])
def test_weights_are_joined_and_the_model_s_modules_go_on_working(tiny_config, quantization, tmp_path):
    config = tiny_config.replace(quantization=quantization)
    plain, base = (load_base(config, plan_device(config)) for _ in range(2))

    def joint_places():
        found = []
        for weight in (block.before.weight for block in base.answers(base.model).blocks):
            ((joint, _),) = weight.stored
            apart = torch.cat([FrozenWeight([own]).unpacked(torch.float32) for own in weight.bases])
            assert torch.equal(weight.unpacked(torch.float32), apart)
            assert joint.numel() == sum(own.weight.numel() for own in weight.bases)
            assert {own.weight.untyped_storage().data_ptr() for own in weight.bases} == {joint.untyped_storage().data_ptr()}
            found.append(joint.data_ptr())
        return found

    assert joint_places() == joint_places(), "once, and not for each fold anew"
    wanted, found = plain.model.state_dict(), base.model.state_dict()
    assert wanted.keys() == found.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
    for one, folder in ((plain, "plain"), (base, "joined")):
        one.model.save_pretrained(tmp_path / folder)
    assert file_hash(tmp_path / "plain" / "model.safetensors") == file_hash(tmp_path / "joined" / "model.safetensors")
    ids = torch.randint(10, 400, (1, 12), generator=torch.Generator().manual_seed(0))
    message = [one.model.generate(input_ids=ids, max_new_tokens=4, do_sample=False) for one in (plain, base)]
    assert torch.equal(*message)


def test_weights_that_were_moved_are_joined_again():
    model = small_model("qwen2_5_vl").requires_grad_(False)
    answers = answering(model)
    batch = batch_of(ROWS, small_pictures(model))
    wanted = answers(batch)
    for layer in model.model.language_model.layers:
        layer.self_attn.k_proj.double()
        layer.mlp.up_proj.weight.data = layer.mlp.up_proj.weight.data.clone() * 2
        layer.mlp.down_proj.weight.data = layer.mlp.down_proj.weight.data / 2
    torch.testing.assert_close(answers(batch), wanted)
    attention, mlp = (block.before.weight for block in answers.blocks[:2])
    assert (len(attention.stored), len(mlp.stored)) == (3, 1), "weights of different precision stay apart"


def test_4_bit_weights(tiny_config, questions, maker):
    config = tiny_config.replace(quantization="4bit", lora_dropout=0.0)
    base = load_base(config, plan_device(config))
    answers = base.answers(make_trainable(base, config, 0)).train()
    batch = maker.batch([maker.row(question) for question in questions[:2]])
    ours = outcome(answers, batch)
    answers.blocks = nn.ModuleList()
    assert_same(ours, outcome(answers, batch), 1e-4)


def test_the_last_mlp_sees_the_answers_with_the_masks_of_their_tokens(monkeypatch):
    model = small_model("qwen2_5_vl").requires_grad_(False)
    answers = answering(adapted(model, "q_proj|up_proj|down_proj", 0.3)).train()
    drawn, seen = [], []

    def noting(*args):
        drawn.extend(draw_dropout(*args))
        return tuple(drawn)

    monkeypatch.setattr("mcvqa.model.fast.forward.draw_dropout", noting)
    answers.blocks[-1].register_forward_pre_hook(lambda block, args: seen.extend((args[0], *args[3])))
    batch = batch_of(ROWS, small_pictures(model))
    answers(batch)
    at = batch.answer_at.flatten()
    assert len(seen[0]) == len(at) and len(drawn) == 2 * len(answers.blocks)
    for given, whole in zip(seen[1:], drawn[-2:], strict=True):
        assert torch.equal(given.token_keys, whole.token_keys[at]) and given.input_keys is whole.input_keys


def test_rows_that_share_all_they_have_may_be_more_than_their_tokens():
    model = small_model("qwen2_5_vl").requires_grad_(False)
    answers = answering(adapted(model, "up_proj", 0.3)).train()
    batch = batch_of(ROWS[4:5] * 20, small_pictures(model))
    assert batch.answer_at.numel() > len(batch.input_ids)
    logits = answers(batch)
    assert torch.equal(logits, logits[:1].expand_as(logits))


def test_without_checkpointing_nothing_is_computed_twice_and_with_it_less_is_kept(monkeypatch):
    model = small_model("qwen2_5_vl").requires_grad_(False)
    answers = answering(adapted(model, "q_proj|up_proj")).train()
    batch = batch_of(ROWS, small_pictures(model))
    made, forward = [], Projections.forward

    def noting(self, *args):
        made.append(self)
        return forward(self, *args)

    monkeypatch.setattr(Projections, "forward", noting)
    counts, kept = [], []
    for checkpointing in (False, True):
        answers.set_checkpointing(checkpointing)
        made.clear()
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            outcome(answers, batch)
        counts.append(len(made))
        kept.append(sum(sizes))
    blocks = len(answers.blocks)
    assert counts == [2 * blocks, 3 * blocks], "with checkpointing what stands before the mixing is made again, and no more"
    queries, keys, gate = 64, 32, 96
    tokens, answered = len(batch.input_ids), batch.answer_at.numel()
    attention, mlp = (queries + 2 * keys) * 3 * tokens, 2 * gate * (2 * tokens + answered)  # the last MLP sees answers only
    assert kept[0] - kept[1] == attention + mlp


def test_a_model_that_is_trained_as_a_whole_keeps_the_library_s_layers(tiny_config):
    config = tiny_config.replace(lora_r=0)
    base = load_base(config, plan_device(config))
    assert isinstance(base.answers(base.model).blocks[0], Block)
    base.language.config.hidden_act = "gelu"
    assert not base.answers(base.model).blocks, "and so does a model with layers of another kind"
    base.language.config.hidden_act = "silu"
    assert not base.answers(make_trainable(base, config, 0)).blocks
