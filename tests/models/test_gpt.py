"""The small GPT: its parts fit together, it sees the past only, and tells stories as it reads them."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from lib.measure.cost import flops, parameters
from lib.models.generate import generate
from lib.models.gpt import GPT, PRESETS, GPTConfig
from lib.models.gpt_cost import forward_flops, training_flops
from lib.models.rotary import angles, rotate
from lib.moe.layer import MoEConfig
from lib.moe.losses import moe_language_model_loss

SMALL = GPTConfig(vocabulary=40, context=16, width=16, depth=2, heads=4, hidden=24)
VARIANTS = [
    dict(norm=norm, positions=positions, ffn=ffn, tied=tied, bias=bias, kv_heads=kv_heads)
    for norm, positions, ffn, tied, bias, kv_heads in itertools.product(
        ("rms", "layer"), ("rope", "learned"), ("swiglu", "gelu"), (True, False), (False, True), (None, 2)
    )
]
MIXTURE = MoEConfig(experts=4, k=2)


def model(seed=0, **changes):
    torch.manual_seed(seed)
    return GPT(replace(SMALL, **changes)).eval()


def tokens(rows=2, length=16, seed=1):
    return torch.randint(40, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("changes", VARIANTS[::5] + [dict(moe=MIXTURE), dict(moe=MIXTURE, bias=True, ffn="gelu")])
def test_no_token_sees_what_follows(changes):
    net, text = model(**changes), tokens()
    other = text.clone()
    other[:, 9:] = (other[:, 9:] + 7) % 40
    before, after = net(text), net(other)
    torch.testing.assert_close(before[:, :9], after[:, :9])
    assert not torch.allclose(before[:, 9:], after[:, 9:])


@pytest.mark.parametrize("changes", VARIANTS[::7] + [dict(moe=MIXTURE)])
def test_cached_generation_is_greedy_decoding_of_the_whole_text(changes):
    net, text = model(**changes), tokens(length=4)
    told = generate(net, text, 9, temperature=0)
    for _ in range(9):
        text = torch.cat([text, net(text)[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(told, text)


def test_sampling_repeats_with_its_seed_and_ends():
    net, start = model(), tokens(3, 1)
    one, same, other = (generate(net, start, 12, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    ended = generate(net, start, 15, seed=0, end=int(one[0, 1]))
    row = ended[0, 1:]
    assert (row == one[0, 1]).all(), "after the end only the end follows"


def test_top_k_keeps_to_the_best():
    net, start = model(), tokens(1, 3)
    best = set(net(start)[0, -1].topk(2).indices.tolist())
    assert {int(generate(net, start, 1, top_k=2, seed=seed)[0, -1]) for seed in range(20)} == best


@pytest.mark.parametrize(
    "prompt, count, temperature, message",
    [(tokens(1, 0), 3, 1.0, "empty"), (tokens(1, 10), 7, 1.0, "17 tokens do not fit"), (tokens(1, 2), 3, -1.0, "negative")],
)
def test_generation_says_what_is_wrong(prompt, count, temperature, message):
    with pytest.raises(ValueError, match=message):
        generate(model(), prompt, count, temperature=temperature)


def test_a_text_longer_than_the_context_is_refused():
    with pytest.raises(ValueError, match="17 tokens does not fit"):
        model()(tokens(1, 17))


def test_rotary_products_depend_on_the_distance_only():
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)

    def product(i, j):
        cos, sin = angles(torch.tensor([i, j]), 8)
        return float((rotate(q, cos[:1], sin[:1]) * rotate(k, cos[1:], sin[1:])).sum())

    assert product(3, 1) == pytest.approx(product(13, 11), abs=1e-12)
    assert abs(product(3, 1) - product(3, 2)) > 1e-6


def test_grouped_queries_share_keys():
    """With the key-value heads repeated, full attention computes the same."""
    grouped, full = model(kv_heads=2), model()
    state = grouped.state_dict()
    for block, kind in itertools.product(range(2), "kv"):
        name = f"blocks.{block}.attention.{kind}.weight"
        state[name] = state[name].view(2, 4, 16).repeat_interleave(2, 0).reshape(16, 16)
    full.load_state_dict(state)
    torch.testing.assert_close(grouped(tokens()), full(tokens()))


@pytest.mark.parametrize("changes", VARIANTS[::3])
def test_compute_is_what_the_counter_finds(changes):
    net = model(**changes)
    assert flops(net, tokens()) == forward_flops(net.config, 32)
    assert training_flops(net.config, 32) == 3 * forward_flops(net.config, 32)


def test_compute_of_a_mixture_is_its_active_part():
    whole, alone = replace(SMALL, moe=MoEConfig(experts=8, k=2)), replace(SMALL, moe=MoEConfig(experts=8, k=1))
    ffn = 2 * 32 * SMALL.depth * 3 * SMALL.width * SMALL.hidden
    assert forward_flops(whole, 32) - forward_flops(alone, 32) == ffn
    fine = replace(SMALL, moe=MoEConfig(experts=4, k=1, split=2))
    assert forward_flops(fine, 32) == forward_flops(alone, 32), "halves, two of them at work, and as many router rows"


def test_active_parameters_of_a_mixture():
    net, dense = model(moe=MIXTURE), model()
    router = 2 * 4 * 16
    ffn = 2 * 3 * 16 * 24
    assert parameters(net) == parameters(dense) + 3 * ffn + router
    assert net.active_parameters() == parameters(dense) + ffn + router


def test_an_untied_embedding_counts_with_one_row():
    assert model(tied=False).active_parameters() == parameters(model()) + 16


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(width=18), "cannot be shared by 4 heads"),
        (dict(kv_heads=3), "cannot share 3"),
        (dict(width=12), "choose an even number"),
        (dict(norm="batch"), "norm"),
        (dict(moe=MoEConfig(router="expert-choice")), "yet to come"),
        (dict(moe=MoEConfig(k=2, shared=1)), "shared=0"),
        (dict(moe=MoEConfig(policy="arrival")), "dropless"),
        (dict(depth=0), "depth is 0"),
    ],
)
def test_impossible_geometries_say_what_to_do(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


def test_the_projects_networks_build():
    with torch.device("meta"):
        sizes = {name: GPT(config) for name, config in PRESETS.items()}
    assert [round(parameters(net) / 1e6) for net in sizes.values()] == [76, 340, 1310, 1624]


def test_it_learns():
    """A text that repeats itself is learnt to the letter, by experts too."""
    for moe in (None, MIXTURE):
        net = model(moe=moe).train()
        text = torch.arange(17).remainder(5).expand(4, -1)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
        for _ in range(60):
            loss, logged = moe_language_model_loss(net, text[:, :-1], text[:, 1:])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        assert logged["task_loss"] < 0.05
        assert ("load_entropy" in logged) == (moe is not None)


def test_dropout_only_in_training():
    net = model(dropout=0.5)
    assert torch.equal(net(tokens()), net(tokens()))
    net.train()
    assert not torch.equal(net(tokens()), net(tokens()))


def test_the_loss_is_cross_entropy():
    net, text = model(), tokens()
    loss, _ = moe_language_model_loss(net, text[:, :-1], text[:, 1:])
    expected = F.cross_entropy(net(text[:, :-1]).double().transpose(1, 2), text[:, 1:])
    torch.testing.assert_close(loss.double(), expected)
