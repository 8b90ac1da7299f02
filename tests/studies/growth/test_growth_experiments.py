"""What the growth chapter's Specs ask for, and what is made of their results."""

from dataclasses import replace

import pytest
import torch

from lib.growth.depth import Deepen
from lib.growth.width import Widen
from lib.models.gpt import GPTConfig
from lib.runs.results import Result
from lib.runs.store import Store, obtain
from lib.studies.base.corpora import Corpus, available_text, pig_latin
from lib.studies.base.token_kinds import KINDS, kind, token_kinds
from lib.studies.growth.gpt import GrowthRun
from lib.studies.growth.names import method, ordered
from lib.studies.growth.paths import lineage, path, seconds, step_flops
from lib.studies.growth.saving import needed, saving
from lib.studies.growth.studies import Parameters, Plan, chain, sized, studies
from lib.training.loop import Recipe

TINY = GPTConfig(vocabulary=300, context=16, width=16, depth=2, heads=2, hidden=16)
CORPUS = Corpus(stories=60, vocabulary=300)


def run_of(**changes):
    recipe = Recipe(epochs=2, batch_size=4, lr=5e-3, warmup=0.0)
    return GrowthRun(**{"corpus": CORPUS, "steps": 4, "recipe": recipe, "watched": 256, **changes})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("reference"), tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def family(store):
    small = run_of(model=TINY)
    wide = run_of(parent=small, growth=(Widen(2),))
    deep = run_of(parent=wide, growth=(Deepen(4),))
    return obtain([deep, wide, small], store=store)


@pytest.mark.parametrize("scale", ["smoke", "laptop", "cpu", "gpu"])
def test_every_comparison_spends_the_same_compute(scale):
    parameters = Parameters(scale=scale)
    plan, found = Plan(sized(parameters)), studies(parameters)
    names = ("depth", "width", "upcycling", "faults", "times", "moments")
    spent = [run.total_flops / plan.budget for name in names for run in found[name]]
    spent += [run.total_flops / plan.budget for run in found["pipeline"] if len(chain(run)) == 4]
    slack = {"smoke": 0.35, "laptop": 0.12}.get(scale, 0.03)  # whole steps are few there
    assert min(spent) > 1 - slack and max(spent) < 1 + slack


def test_the_seed_goes_through_the_whole_family():
    for name, specs in studies(Parameters(scale="laptop", seeds=2)).items():
        for spec in specs:
            if isinstance(spec, GrowthRun):
                assert {one.seed for one in chain(spec)} == {spec.seed}, name


def test_knobs_reach_the_networks():
    size = sized(Parameters(scale="laptop", width=64, depth=6, experts=4, steps=50, lr=1e-3))
    assert (size.final.width, size.final.depth, size.experts, size.steps, size.recipe.lr) == (64, 6, 4, 50, 1e-3)
    assert size.final.head_dim == 8 and size.final.hidden == 176
    order = studies(Parameters(order="depth, width, experts"))["pipeline"]
    assert [type(run.growth[0]).__name__ for run in order if run.growth][:3] == ["Deepen", "Widen", "Upcycle"]


@pytest.mark.parametrize(
    "knobs, message",
    [
        (dict(order="width, depth"), "each once"),
        (dict(shares="1, 2, 3"), "four numbers"),
        (dict(rates="1, 1, 1, x"), "separated by commas"),
        (dict(corpus="wikipedia"), "wikipedia"),
        (dict(width=8), "at least 16"),
        (dict(lr=0.0), "above 0"),
        (dict(steps=3), "at least 10"),
    ],
)
def test_impossible_knobs_say_what_to_do(knobs, message):
    with pytest.raises(ValueError, match=message):
        Parameters(**knobs)


@pytest.mark.parametrize("knobs, message", [(dict(width=40), "multiple of 16"), (dict(depth=3), "even")])
def test_impossible_networks_say_what_to_do(knobs, message):
    with pytest.raises(ValueError, match=message):
        studies(Parameters(**knobs))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(), "geometry of the model|geometry or a parent"),
        (dict(model=TINY, steps=5), "choose a multiple"),
        (dict(model=TINY, moments="lost"), "moments"),
        (dict(model=TINY, trained="new blocks"), "after one Deepen"),
    ],
)
def test_impossible_runs_say_what_to_do(changes, message):
    with pytest.raises(ValueError, match=message):
        run_of(**changes)


def test_a_family_is_one_path(family):
    line = lineage(family[0], family)
    assert [ordered(run.spec) for run in line] == [[], ["width"], ["width", "depth"]]
    assert line[-1].metrics["total_flops"] == sum(run.metrics["flops"] for run in line)
    way = path(line, "probe_loss")
    assert way["flops"].is_monotonic_increasing and way["flops"].iloc[-1] == line[-1].metrics["total_flops"]
    jumps = way[way.duplicated("flops")]
    assert len(jumps) == 2 and set(way["phase"]) == {0, 1, 2}
    for run in line[1:]:
        assert run.metrics["exact"] and abs(run.metrics["loss_after"] - run.metrics["loss_before"]) < 1e-5
    clock = {step_flops(run): 0.5 for run in line}
    assert seconds(line, clock) == 6.0
    with pytest.raises(LookupError, match="grown from"):
        lineage(family[0], [])


def test_what_the_parent_learnt_arrives(family, store):
    """The loss before the transition is the parent's at its end."""
    deep, wide, _ = family
    assert deep.metrics["loss_before"] == pytest.approx(wide.curves["probe_loss"][-1], abs=1e-5)
    assert method(deep) == "width → depth" and method(wide) == "width, equal copies, no warm-up"


def test_only_new_blocks_are_trained(store):
    from safetensors.torch import load_file

    small = run_of(model=TINY)
    run = run_of(parent=small, growth=(Deepen(4),), trained="new blocks", corpus=replace(CORPUS, dialect="pig-latin"))
    (result,) = obtain([run], store=store)
    before, after = (load_file(store.scratch(one) / "weights.safetensors") for one in (small, run))
    new = {place for place, (_, silent) in enumerate(run.growth[0].plan(2)) if silent}
    changed = {
        name
        for name in after
        if name.startswith("blocks.") and name.count(".") > 2 and not torch.equal(after[name], before[old_name(name, run)])
    }
    assert changed and {int(name.split(".")[1]) for name in changed} == new
    assert torch.equal(after["embed.weight"], before["embed.weight"])
    assert {"old_test_bits_per_byte", "old_test_bits_per_byte_before"} <= result.metrics.keys()
    assert method(result).endswith("new blocks only")


def old_name(name, run):
    return run.growth[0].source(run.parent.config, name)


def test_fresh_moments_and_kept_rates_train_differently(store):
    small = run_of(model=TINY)
    grown = run_of(parent=small, growth=(Widen(2),))
    results = obtain([grown, replace(grown, moments="fresh"), replace(grown, rates="kept")], store=store)
    losses = [result.metrics["test_loss"] for result in results]
    assert len(set(losses)) == 3
    assert len({result.metrics["loss_after"] for result in results}) == 1


def test_needed_compute_follows_a_power_law():
    budgets = [1e9, 2e9, 4e9]
    losses = [4.0 * budget**-0.1 for budget in budgets]
    for budget in (0.7e9, 1.5e9, 2e9, 3e9, 6e9):
        assert needed(4.0 * budget**-0.1, budgets, losses) == pytest.approx(budget)
    with pytest.raises(ValueError, match="two or more"):
        needed(1.0, [1e9], [2.0])
    with pytest.raises(ValueError, match="did not lower"):
        needed(1.0, [1e9, 2e9], [2.0, 2.1])


def test_saving_charges_the_source():
    def result(total, loss, seed=0, flops=100):
        return Result("growth-gpt", "k", {"seed": seed, "steps": 10}, {"total_flops": total, "test_loss": loss, "flops": flops}, {}, {}, {})

    scratch = [result(budget, 4.0 * budget**-0.1) for budget in (1e9, 2e9)] + [result(1e9, 1.0, seed=1)]
    assert saving(result(1e9, 4.0 * 2e9**-0.1), scratch) == pytest.approx(0.5)
    with pytest.raises(ValueError):
        saving(result(1e9, 0.4, flops=200), scratch)  # another geometry
    assert saving(result(1e9, 4.0 * 2e9**-0.1), scratch, spent=lambda run: 2 * run.metrics["total_flops"]) == pytest.approx(0.5)


def test_pig_latin():
    assert pig_latin("The cat, an apple; yes!") == "Ethay atcay, anway appleway; esyay!"
    text, other = (available_text(replace(CORPUS, dialect=dialect), torch.device("cpu")) for dialect in ("plain", "pig-latin"))
    assert other.train.stories == text.train.stories and other.entropy is None and "Pig Latin" in other.variant
    first = text.decode(text.test.tokens[:40].tolist()).split()[:8]
    assert other.decode(other.test.tokens[:80].tolist()).split()[:8] == [pig_latin(word) for word in first]


def test_kinds_of_tokens():
    text = available_text(CORPUS, torch.device("cpu"))
    assert kind(text, text.end) == "end of story"
    told = {part: kind(text, text.encode(part)[0]) for part in (" the", ".", "T")}
    assert told == {" the": "word", ".": "mark", "T": "capitalised word"}
    kinds = token_kinds(text)
    assert len(kinds) == text.vocabulary and set(kinds.tolist()) == set(range(len(KINDS)))
