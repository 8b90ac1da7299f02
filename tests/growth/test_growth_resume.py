"""The growth chapter's runs survive what happens to them: interruption, lost weights, divergence, another precision."""

import os
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from growth_samples import BASE, trained_like
from lib.growth.depth import Deepen
from lib.growth.growth import grow, grow_moments
from lib.growth.moments import Moments, install, read
from lib.growth.rates import factors, groups
from lib.growth.upcycle import Upcycle
from lib.growth.width import Noise, Widen
from lib.models.gpt import GPTConfig
from lib.moe.layer import MoEConfig
from lib.runs import tensor_file
from lib.runs.store import Session, Store, obtain
from lib.studies.base.corpora import Corpus
from lib.studies.growth.gpt import GrowthRun
from lib.training.loop import Recipe, Training, fit
from lib.training.losses import language_model_loss
from lib.training.schedule import warmup_cosine

#: Dropout draws in every step, so a run that goes on with other random numbers is found out.
TINY = GPTConfig(vocabulary=300, context=16, width=16, depth=2, heads=2, hidden=16, dropout=0.1)
RECIPE = Recipe(epochs=3, batch_size=4, lr=5e-3, warmup=0.25, final_lr=0.1)


def run_of(**changes):
    corpus = Corpus(stories=60, vocabulary=300)
    return GrowthRun(**{"corpus": corpus, "steps": 9, "recipe": RECIPE, "watched": 256, **changes})


SMALL = run_of(model=TINY)
WIDE = run_of(parent=SMALL, growth=(Widen(2, Noise(0.0)),))
MIXTURE = (Upcycle(MoEConfig(experts=4, k=2, router="bias")),)

GROWN = {
    "wide, noise": WIDE,
    "wide, rates kept": run_of(parent=SMALL, growth=(Widen(2),), rates="kept"),
    "new blocks": run_of(parent=SMALL, growth=(Deepen(3),), trained="new blocks"),
    "mixture": run_of(parent=SMALL, growth=MIXTURE),
    "averaged": run_of(parent=SMALL, growth=(Widen(2),), recipe=replace(RECIPE, ema=0.8)),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A store in which the smallest network is trained."""
    store = Store(tmp_path_factory.mktemp("reference"), tmp_path_factory.mktemp("own"))
    obtain([SMALL], store=store, device="cpu")
    return store


def copied(store, folder):
    shutil.copytree(store.own, folder)
    return Store(store.reference, folder)


def one(spec, store):
    (result,) = obtain([spec], store=store, device="cpu")
    return result


def weights(spec, store):
    return load_file(store.scratch(spec) / "weights.safetensors")


def same_tensors(some, others):
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def numbers(result):
    """All that a run measured but its time."""
    return [
        {name: value for name, value in part.items() if "seconds" not in name} for part in (result.metrics, result.curves, result.arrays)
    ]


# Interruption


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("name", GROWN)
def test_an_interrupted_training_goes_on_to_the_bit(name, trained, tmp_path, monkeypatch):
    spec, evaluated = GROWN[name], []
    monkeypatch.setattr("lib.training.loop.SAVE_EVERY_SECONDS", 0.0)
    evaluate, interrupted_at = Training.evaluate, [2]

    def counted(training, *arguments):
        evaluated.append(training.epoch)
        if len(evaluated) in interrupted_at:
            raise Interrupted
        return evaluate(training, *arguments)

    monkeypatch.setattr(Training, "evaluate", counted)
    store = copied(trained, tmp_path / "interrupted")
    state = store.scratch(spec) / "state"
    with pytest.raises(Interrupted):
        one(spec, store)
    assert list(state.glob("*.safetensors")) and store.get(spec) is None
    result = one(spec, store)
    assert evaluated == [0, 1, 1, 2], "the saved epoch was trained again"
    assert not state.exists()

    interrupted_at.clear()
    undisturbed = copied(trained, tmp_path / "undisturbed")
    expected = one(spec, undisturbed)
    assert evaluated[4:] == [0, 1, 2]
    assert numbers(result) == numbers(expected)
    assert len(result.curves["val_loss"]) == 3 and result.metrics["test_loss"] == expected.metrics["test_loss"]
    assert same_tensors(weights(spec, store), weights(spec, undisturbed))  # moments and their steps are among them


# Lost weights


def test_parents_whose_weights_were_deleted_are_trained_again(trained, tmp_path):
    """Of a whole line: results are replayed, weights are made anew, and nobody's numbers change."""
    child = run_of(parent=WIDE, growth=MIXTURE)
    store = copied(trained, tmp_path / "own")
    expected, kept = obtain([child, WIDE], store=store, device="cpu"), weights(child, store)
    before = weights(SMALL, store)
    for spec in (SMALL, WIDE, child):
        shutil.rmtree(store.scratch(spec))
    store.path(child).unlink()
    results = {spec: store.get(spec) for spec in (SMALL, WIDE)}
    assert all(results.values())

    assert numbers(one(child, store)) == numbers(expected[0])
    assert same_tensors(weights(child, store), kept) and same_tensors(weights(SMALL, store), before)
    assert [numbers(store.get(spec)) for spec in results] == [numbers(result) for result in results.values()]


# Weights and moments in one file


@pytest.fixture
def session(tmp_path):
    return Session(torch.device("cpu"), Store(tmp_path / "reference", tmp_path / "own"), SMALL, lambda part, text: None)


def test_groups_are_saved_under_their_names(session):
    model = trained_like(BASE)
    first = {"embed.weight": torch.ones(2, 3)}
    second = {"embed.weight": torch.zeros(3).double(), "router": torch.arange(8.0).view(4, 2).mT}
    session.save_weights(model, first=first, second=second)
    found = load_file(session.weights_path)
    named = {"first.embed.weight": first["embed.weight"], "second.embed.weight": second["embed.weight"], "second.router": second["router"]}
    assert all(found[name].dtype == tensor.dtype and torch.equal(found[name], tensor) for name, tensor in named.items())
    model_alone = {name: found[name] for name in found.keys() - named.keys()}
    assert same_tensors(model_alone, dict(model.named_parameters()))  # a tied head is the embedding: once

    session.save_weights(model)
    assert same_tensors(load_file(session.weights_path), model_alone), "what an earlier save wrote is still there"


@pytest.mark.parametrize("step", ["save_file", "os.replace"])
def test_weights_are_replaced_whole_or_not_at_all(session, step, monkeypatch):
    model = trained_like(BASE)
    session.save_weights(model, first={"a": torch.zeros(3)})
    before = session.weights_path.read_bytes()

    def breaks(tensors, path, metadata=None):
        if step == "save_file":
            (session.folder / path).write_bytes(b"half of it")
        assert session.weights_path.read_bytes() == before
        raise OSError("no space left on device")

    monkeypatch.setattr(tensor_file if step == "save_file" else os, step.removeprefix("os."), breaks)
    with pytest.raises(OSError, match="no space left"):
        session.save_weights(model, first={"a": torch.ones(3)})
    monkeypatch.undo()
    assert [path.name for path in session.folder.iterdir()] == ["weights.safetensors"]
    assert session.weights_path.read_bytes() == before


# Ready-made optimisers


class Tokens:
    """Four random batches per epoch; each token is its own target."""

    steps = 4

    def batch(self, epoch, step):
        tokens_BN = torch.randint(31, (4, 12), generator=torch.Generator().manual_seed(10 * epoch + step))
        return tokens_BN, tokens_BN


def test_the_schedule_multiplies_each_groups_own_rate_and_moments_go_on():
    """Fitted with ready-made groups and moments: each step is AdamW's, arXiv 1711.05101, algorithm 2, done by hand."""
    small, growths = trained_like(replace(BASE, depth=1)), (Widen(2, Noise(0.0)), Deepen(2))
    old = groups(small, {}, lr=3e-3, weight_decay=0.1)
    fit(small, Tokens(), language_model_loss, Recipe(epochs=1, batch_size=4), seed=0, optimizers=[old])
    model, moments = grow(small, *growths), grow_moments(small.config, read(small, [old]), *growths)
    assert set(moments.step.values()) == {4.0}

    found, (lr, decay, betas, eps) = factors(small.config, *growths), (2e-3, 0.1, (0.8, 0.95), 1e-6)
    optimizer = groups(model, found, lr=lr, weight_decay=decay, betas=betas, eps=eps)
    install(model, [optimizer], moments)
    own = [group["lr"] for group in optimizer.param_groups]
    assert len(set(own)) > 1

    by_hand = grow(small, *growths)
    recipe = Recipe(epochs=2, batch_size=4, lr=123.0, warmup=0.4, final_lr=0.2, clip=None)  # lr: that of none of them
    rates = [warmup_cosine(step, 8, recipe.warmup, recipe.final_lr) for step in range(8)]
    seen = []
    history = fit(
        model,
        Tokens(),
        language_model_loss,
        recipe,
        seed=1,
        optimizers=[optimizer],
        after_step=lambda model, step: seen.append([group["lr"] for group in optimizer.param_groups]),
    )
    assert seen == [pytest.approx([factor * rate for rate in own]) for factor in rates]
    assert history.curves["lr"] == [seen[3][0], seen[7][0]]

    after = read(model, [optimizer])
    new = {name for name, _ in model.named_parameters()} - moments.step.keys()
    assert new and all(name.startswith("blocks.1.") for name in new)
    assert after.step == {name: moments.step.get(name, 0.0) + 8 for name, _ in model.named_parameters()}

    decayed = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    decayed = {name: decayed[p] for name, p in model.named_parameters()}
    hand = adamw_by_hand(by_hand, moments, found, decayed, [lr * factor for factor in rates], betas, eps)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p, by_hand.get_parameter(name), atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(after.first[name], hand.first[name], atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(after.second[name], hand.second[name], atol=1e-9, rtol=1e-9)


def adamw_by_hand(model, moments, factors, decay, rates, betas, eps):
    """Train on :class:`Tokens` for two epochs, without an optimiser; what AdamW then remembers."""
    first, second, count = dict(moments.first), dict(moments.second), dict(moments.step)
    for step, rate in enumerate(rates):
        tokens_BN, _ = Tokens().batch(*divmod(step, Tokens.steps))
        loss, _ = language_model_loss(model, tokens_BN, tokens_BN)
        named = dict(model.named_parameters())
        for (name, p), grad in zip(named.items(), torch.autograd.grad(loss, list(named.values()))):
            first[name] = betas[0] * first.get(name, torch.zeros_like(p)) + (1 - betas[0]) * grad
            second[name] = betas[1] * second.get(name, torch.zeros_like(p)) + (1 - betas[1]) * grad.square()
            count[name] = t = count.get(name, 0.0) + 1
            mean, square = first[name] / (1 - betas[0] ** t), second[name] / (1 - betas[1] ** t)
            own = rate * factors[name].lr
            with torch.no_grad():
                p.sub_(own * decay[name] * p + own * mean / (square.sqrt() + eps * factors[name].eps))
    return Moments(first, second, count)


# Divergence, precision


@pytest.mark.parametrize(
    "changes",
    [dict(model=TINY), dict(parent=SMALL, growth=(Widen(2),), rates="kept"), dict(parent=SMALL, growth=MIXTURE)],
    ids=["new", "wide", "mixture"],
)
def test_a_training_that_diverges_has_a_result_and_tells_no_story(changes, trained):
    spec = run_of(**changes, recipe=replace(RECIPE, lr=1e6, clip=None, warmup=0.0))
    result = one(spec, trained)
    assert result.metrics["diverged"] is True and result.arrays["stories"] == []
    assert {"test_loss", "val_loss", "flops", "total_flops"} <= result.metrics.keys()
    replayed = trained.get(spec)
    assert replayed.metrics["diverged"] is True and replayed.metrics.keys() == result.metrics.keys()


def test_a_training_that_does_not_diverge_tells_stories(trained):
    result = one(SMALL, trained)
    assert result.metrics["diverged"] is False and len(result.arrays["stories"]) == 2


@pytest.mark.parametrize("growth", [(Widen(2, Noise(0.0)),), MIXTURE], ids=["wide", "mixture"])
def test_bfloat16_trains_a_grown_network_like_float32(growth, trained):
    exact = run_of(parent=SMALL, growth=growth)
    rounded = replace(exact, recipe=replace(RECIPE, precision="bf16"))
    results = [one(spec, trained) for spec in (exact, rounded)]
    expected, found = ([*result.curves["train_loss"], result.metrics["test_loss"]] for result in results)
    assert found == pytest.approx(expected, rel=2e-3)
    assert all(a != b for a, b in zip(found, expected)), "bfloat16 was not used"
    kept, made = (weights(spec, trained) for spec in (exact, rounded))
    assert all(made[name].dtype == kept[name].dtype == torch.float32 for name in kept if not name.startswith("step."))
    assert same_tensors(*({name: t for name, t in one.items() if name.startswith("step.")} for one in (kept, made)))
