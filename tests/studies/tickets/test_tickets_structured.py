"""The Specs of structured tickets on a tiny encoder, their names, and the values behind their claims."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from claimed import reads
from lib.data.tasks import evaluate_task
from lib.data.titles import title
from lib.measure.statistics import NotTestable
from lib.models.encoder import EncoderConfig
from lib.runs.results import Result, Results
from lib.runs.spec import all_fields
from lib.runs.store import Session, Store, obtain
from lib.studies.tickets import values
from lib.studies.tickets.early import DRAWS, EarlySearchRun, TicketRun, TrainingTimeRun
from lib.studies.tickets.ebert import DynamicSpeedRun, JointRun, TunedRun, emptiest
from lib.studies.tickets.finetune import FinetuneRun, TaskSize
from lib.studies.tickets.labels import label
from lib.studies.tickets.plays import RetrainRun, SearchRun
from lib.studies.tickets.pretrain import PretrainRun
from lib.studies.tickets.structured import Structured, ebert
from lib.studies.tickets.text import Source
from lib.studies.tickets.words import BagOfWordsRun
from lib.tickets.ebert import Census, census
from lib.tickets.flops import flops_share
from lib.training.loop import Recipe

#: What claims and tables call the two tasks.
ORDER, SHUFFLED = title("order"), title("shuffled")

BRIEF = Recipe(epochs=1, batch_size=16, lr=2e-3)
PRETRAIN = PretrainRun(
    source=Source(stories=120),
    model=EncoderConfig(width=16, depth=2, heads=4, hidden=24),
    recipe=Recipe(epochs=1, batch_size=8, lr=3e-3),
    steps=3,
)
WHOLE = FinetuneRun(parent=PRETRAIN, task="order", size=TaskSize(64, 32), recipe=replace(BRIEF, epochs=2))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tickets")
    return Store(folder / "reference", folder / "own")


def ran(store, spec):
    results = obtain([spec], store=store, device="cpu")
    assert not results.missing
    return results[0]


def session(store, spec):
    return Session(torch.device("cpu"), store, spec, lambda part, text: None)


# When BERT Plays the Lottery


def test_structured_search_and_retraining(store):
    search = SearchRun(parent=WHOLE, looked=24)
    found = ran(store, search)
    m, a = found.metrics, found.arrays
    assert m["masked_score"] >= 0.9 * m["full_score"] and 0 <= m["share"] <= 1
    assert len(a["stages"]) == len(a["scores"]) == len(a["shares"]) and a["stages"][0] == "whole" and a["shares"][0] == 1
    masks = search.load(session(store, search))
    assert masks["heads"].int().tolist() == a["heads"] and int(masks["heads"].sum()) == m["heads"]
    quarter = replace(search, to=0.5)
    assert ran(store, quarter).metrics["heads"] == 4 and ran(store, quarter).metrics["ffns"] == 1
    runs = [ran(store, RetrainRun(search=quarter, choice=choice)).metrics for choice in ("good", "random", "bad")]
    assert len({run["share"] for run in runs}) == len({run["parameters"] for run in runs}) == 1
    assert runs[0]["share"] == pytest.approx(0.5) and runs[0]["parameters"] < ran(store, WHOLE).metrics["parameters"]
    assert ran(store, RetrainRun(search=quarter, weights="random")).metrics["test_accuracy"] <= 1


def test_magnitude_search_and_retraining(store):
    search = SearchRun(parent=WHOLE, how="magnitude", looked=24, to=0.3)
    assert ran(store, search).metrics["share"] == pytest.approx(0.3, abs=1e-3)
    masks = search.load(session(store, search))
    weights = {name: weight.detach() for name, weight in WHOLE.load(session(store, WHOLE)).named_parameters()}
    smallest = min(float(weights[f"{name}.weight"].abs()[mask].min()) for name, mask in masks.items() if mask.any())
    gone = [float(weights[f"{name}.weight"].abs()[~mask].max()) for name, mask in masks.items() if not mask.all()]
    assert max(gone) <= smallest
    for choice in ("good", "random", "bad"):
        assert ran(store, RetrainRun(search=search, choice=choice)).metrics["share"] == pytest.approx(0.3, abs=1e-3)


# EarlyBERT


def test_tickets_and_their_time(store):
    search = EarlySearchRun(base=WHOLE, checks=4)
    found = ran(store, search)
    assert found.metrics["steps"] == 8 and len(found.arrays["check_epoch"]) == 8 and found.arrays["check_epoch"][-1] == 2
    assert len(found.arrays["distance"]) == 8 and found.arrays["distance"][:5] == [None] * 5
    ticket, step = search.drawn(session(store, search), "early")
    assert ticket.heads.sum(1).tolist() == [3, 3] and int(ticket.neurons.sum()) == 48 - 19
    assert step == found.metrics["drawn_step"] == 1
    base = TicketRun(search=search)
    assert (base.recipe.epochs, base.recipe.lr) == (1, 4e-3)
    sizes = {how: ran(store, replace(base, draw=how)).metrics["parameters"] for how in DRAWS}
    assert sizes["early"] == sizes["settled"] == sizes["late"] == sizes["random"] < sizes["whole"]
    assert sizes["whole"] == ran(store, WHOLE).metrics["parameters"]
    first, second = (replace(base, draw="random", number=number).ticket(session(store, base)) for number in (0, 1))
    assert not torch.equal(first.neurons, second.neurons)
    clock = ran(store, TrainingTimeRun(ticket=base, rounds=4)).metrics
    assert clock["time_ratio"] == pytest.approx(clock["search_share"] + clock["ticket_share"])
    assert clock["time_ratio_same_epochs"] == pytest.approx(clock["search_share"] + 2 * clock["ticket_share"])
    assert clock["ticket_share"] == pytest.approx(clock["ticket_step_ms"] / clock["whole_step_ms"] / 2, rel=1e-4)


# EBERT


def test_dynamic_and_static_networks(store):
    joint = JointRun(parent=WHOLE, recipe=BRIEF, target=0.6)
    dynamic = TunedRun(parent=joint, recipe=BRIEF)
    m = ran(store, dynamic).metrics
    here = session(store, dynamic)
    task = WHOLE.task_on(here)
    loaded = dynamic.load(here)
    assert evaluate_task(loaded, task.test)["accuracy"] == pytest.approx(m["test_accuracy"])
    assert census(loaded, task.validation.tokens).flops == pytest.approx(m["flops"], rel=1e-4)
    stage = ran(store, joint).metrics
    budget = census(joint.load(here), task.validation.tokens).flops
    assert budget == pytest.approx(stage["flops"], rel=1e-4)
    assert sum(stage[f"heads_{kind}"] for kind in ("always_on", "always_off", "input_dependent")) == 8

    learnt = TunedRun(parent=replace(joint, kind="constant"), how="static", equal=joint, recipe=BRIEF)
    for static in (learnt, replace(dynamic, how="static"), replace(dynamic, how="important")):
        result = ran(store, static)
        assert result.metrics["budget"] == pytest.approx(budget, rel=1e-4)
        config = static.load(here).encoder.config
        kept = [torch.ones(1, n) for n in config.heads_by_layer], [torch.ones(1, n) for n in config.hidden_by_layer]
        spent = float(flops_share(*kept, PRETRAIN.geometry, task.validation.tokens.shape[1], False))
        assert result.metrics["flops"] == pytest.approx(spent, rel=1e-5) and spent <= budget + 1e-6
        assert evaluate_task(static.load(here), task.test)["accuracy"] == pytest.approx(result.metrics["test_accuracy"])

    times = ran(store, DynamicSpeedRun(dynamic=dynamic, static=learnt, rounds=3, batches=(1, 8))).metrics
    assert times["skipping_ratio_at_1"] > 0 and times["needed_at_1"] <= times["needed_at_8"] <= 1


def test_specs_refuse_what_makes_no_sense():
    joint, ticket = JointRun(parent=WHOLE), TicketRun(search=EarlySearchRun(base=WHOLE))
    for make, message in (
        (lambda: SearchRun(parent=WHOLE, how="both"), "'structured', 'magnitude'"),
        (lambda: SearchRun(parent=WHOLE, to=1.0), "above 0 and below 1"),
        (lambda: SearchRun(parent=WHOLE, looked=0), "at least one example"),
        (lambda: RetrainRun(search=SearchRun(parent=WHOLE), choice="best"), "'good', 'random', 'bad'"),
        (lambda: RetrainRun(search=SearchRun(parent=WHOLE), weights="shuffled"), "'pretrained', 'random'"),
        (lambda: EarlySearchRun(base=WHOLE, heads=1.0), "shares"),
        (lambda: EarlySearchRun(base=WHOLE, checks=0), "at least one check"),
        (lambda: TicketRun(search=EarlySearchRun(base=WHOLE), draw="first"), "'early', 'settled', 'late'"),
        (lambda: TicketRun(search=EarlySearchRun(base=WHOLE), less=0.0), "above 0"),
        (lambda: EarlySearchRun(base=WHOLE, drawn_at=0.0), "drawn_at"),
        (lambda: TrainingTimeRun(ticket=replace(ticket, draw="random")), "draw"),
        (lambda: JointRun(parent=WHOLE, target=0.0), "share of the FLOPs"),
        (lambda: JointRun(parent=WHOLE, per_layer=-1.0), "per_layer"),
        (lambda: TunedRun(parent=joint, equal=joint), "only a static network"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


# Names


def test_names():
    search = SearchRun(parent=WHOLE)
    joint = JointRun(parent=WHOLE)
    dynamic = TunedRun(parent=joint)
    named = [
        label(result)
        for result in results(
            *(
                (spec, {})
                for spec in (
                    WHOLE,
                    search,
                    RetrainRun(search=search),
                    RetrainRun(search=replace(search, how="magnitude", to=0.25), choice="bad"),
                    RetrainRun(search=search, weights="random"),
                    TicketRun(search=EarlySearchRun(base=WHOLE)),
                    joint,
                    dynamic,
                    replace(dynamic, parent=replace(joint, per_layer=0.0)),
                    replace(dynamic, how="static"),
                    replace(dynamic, how="static", parent=replace(joint, kind="constant"), equal=joint),
                    replace(dynamic, how="important"),
                )
            )
        )
    ]
    assert named == [
        None,
        "S-pruning",
        "S-pruning, good",
        "M-pruning, bad, cut to 25%",
        "S-pruning, good, not pre-trained",
        "early ticket",
        "dynamic",
        "dynamic",
        "dynamic, no layer terms",
        "static, the dynamic one's usual gates",
        "static, learnt",
        "static, by importance",
    ]


# Claims


def results(*entries):
    return Results(
        tuple(
            Result(spec.experiment, spec.key, all_fields(spec), metrics, {}, metrics.pop("arrays", {}), {"device": "none"})
            for spec, metrics in entries
        )
    )


def sample(seeds=(0, 1), accuracy=0.9):
    """Every study with accuracies that tell which run they came from, for two tasks that differ by 0.02."""
    entries = {
        name: []
        for name in (
            "finetune",
            "plays-search",
            "plays-retrain",
            "plays-harsh",
            "early-tickets",
            "early-search",
            "early-time",
            "ebert",
            "ebert-static",
            "ebert-layers",
            "ebert-small",
            "ebert-speed",
            "words",
        )
    }
    entries["words"] += [(BagOfWordsRun(task=task, size=WHOLE.size), {"test_accuracy": 0.6}) for task in ("order", "shuffled")]
    for seed in seeds:
        for task, shift in (("order", 0.0), ("shuffled", 0.02)):
            whole = replace(WHOLE, task=task, seed=seed)
            entries["finetune"] += [
                (whole, {"test_accuracy": accuracy + shift, "val_accuracy": accuracy + shift}),
                (replace(whole, start="random"), {"test_accuracy": 0.1}),
            ]
            search = SearchRun(parent=whole, seed=seed)
            heads = [[1, 1, 0, 0], [1, 0, 1, seed]]
            entries["plays-search"] += [
                (search, {"share": 0.6 + shift, "arrays": {"heads": heads}}),
                (replace(search, how="magnitude"), {"share": 0.1}),
            ]
            for how, numbers in (("structured", (0.8, 0.79, 0.7)), ("magnitude", (0.85, 0.65, 0.5))):
                for choice, value in zip(("good", "random", "bad"), numbers):
                    run = RetrainRun(search=replace(search, how=how), choice=choice, seed=seed)
                    entries["plays-retrain"].append((run, {"test_accuracy": value}))
            for to, gap in ((0.5, 0.02), (0.25, 0.06)):
                entries["plays-harsh"] += [
                    (RetrainRun(search=replace(search, to=to), seed=seed), {"test_accuracy": 0.7}),
                    (RetrainRun(search=replace(search, to=to), choice="random", seed=seed), {"test_accuracy": 0.7 - gap}),
                ]
            early = EarlySearchRun(base=whole, seed=seed)
            entries["early-search"].append((early, {"settled_share": 0.8}))
            for how, number, test, validation in (
                ("early", 0, 0.89, 0.9),
                ("late", 0, 0.88, 0.9),
                ("random", 0, 0.95, 0.7),
                ("random", 1, 0.84, 0.8),
                ("whole", 0, 0.9, 0.9),
            ):
                run = TicketRun(search=early, draw=how, number=number, seed=seed)
                entries["early-tickets"].append((run, {"test_accuracy": test, "val_accuracy": validation}))
            clock = TrainingTimeRun(ticket=TicketRun(search=early, seed=seed), seed=seed)
            entries["early-time"].append((clock, {"time_ratio": 0.6}))
            for target, loss, gain in ((0.4, 0.05, 0.03), (0.6, 0.01, 0.01)):
                joint = JointRun(parent=whole, target=target, seed=seed)
                run = TunedRun(parent=joint, seed=seed)
                static = replace(run, how="static", parent=replace(joint, kind="constant"), equal=joint)
                entries["ebert"].append((run, {"test_accuracy": accuracy + shift - loss, "emptiest_by_kind": 0.3}))
                entries["ebert-static"] += [
                    (static, {"test_accuracy": accuracy + shift - loss - gain, "val_accuracy": 0.7}),
                    (replace(run, how="important"), {"test_accuracy": 0.99, "val_accuracy": 0.6}),
                    (replace(run, how="static"), {"test_accuracy": 0.2, "val_accuracy": 0.5}),
                ]
                if target == 0.4:
                    bare = replace(run, parent=replace(joint, per_layer=0.0))
                    entries["ebert-layers"].append((bare, {"test_accuracy": 0.8, "emptiest_by_kind": 0.05}))
                    speed = DynamicSpeedRun(dynamic=run, static=static, seed=seed)
                    entries["ebert-speed"].append((speed, {"skipping_ratio_at_1": 0.7, "flops": 0.38}))
        few = replace(WHOLE, size=TaskSize(32, 32), seed=seed)
        # Its fine-tuning is part of the study.
        entries["ebert-small"].append((few, {"test_accuracy": 0.8, "val_accuracy": 0.8}))
        entries["ebert-small"].append((TunedRun(parent=JointRun(parent=few, seed=seed), seed=seed), {"test_accuracy": 0.7}))
    return {name: results(*found) for name, found in entries.items()}


#: Values in which the second task's head start of 0.02 shows, and how.
SHIFTED = {
    reads("plays-bad"): 1,
    reads("plays-large"): 1,
    reads("plays-harsh"): 1,
    reads("early-quality"): -1,
}


@pytest.mark.parametrize(
    "value, expected",
    [
        (reads("plays-structured"), 0.01),
        (reads("plays-magnitude"), 0.2),
        (reads("plays-bad"), 0.2),
        (reads("plays-large"), 0.6),
        (reads("plays-harsh"), 0.26),
        (reads("early-quality"), -0.01),
        (reads("early-time"), 0.6),
        (reads("early-settles"), 0.8),
        (reads("early-random"), 0.05),
        (reads("early-late"), 0.01),
        (reads("ebert-dynamic"), 0.02),
        (reads("ebert-quality"), -0.01),
        (reads("ebert-layers"), 0.25),
        (reads("ebert-latency"), 0.7),
        (reads("ebert-small"), 0.05),
    ],
)
def test_claims_read_the_runs_they_name(value, expected):
    found = value(sample())
    assert set(found) == ({ORDER} if value is reads("ebert-small") else {ORDER, SHUFFLED})
    for task, numbers in found.items():
        shift = 0.02 if task == SHUFFLED else 0.0
        assert numbers == pytest.approx([expected + SHIFTED.get(value, 0.0) * shift] * 2), task


def test_tasks_are_never_averaged():
    """Opposite results on two tasks stay two results."""
    studied = sample()
    for r in studied["plays-retrain"]:
        if r.spec["search"]["parent"]["task"] == "shuffled" and r.spec["choice"] == "random":
            r.metrics["test_accuracy"] = 0.95
    found = reads("plays-structured")(studied)
    assert found[ORDER] == pytest.approx([0.01] * 2) and found[SHUFFLED] == pytest.approx([-0.15] * 2)


def test_agreement_of_seeds_is_beyond_chance():
    # Four heads of eight and five of eight, four of them in common: 4/5, where chance gives (20/64) / (9/8 - 20/64).
    chance = (20 / 64) / (72 / 64 - 20 / 64)
    expected = pytest.approx([(0.8 - chance) / (1 - chance)])
    assert reads("plays-unstable")(sample()) == {ORDER: expected, SHUFFLED: expected}
    assert len(reads("plays-unstable")(sample(seeds=(0, 1, 2)))[ORDER]) == 3  # every pair of seeds
    assert values.agreement([[1, 0]], [[1, 0]]) == 1 and values.agreement([[1, 1]], [[1, 1]]) is None
    with pytest.raises(NotTestable, match="two seeds"):
        reads("plays-unstable")(sample(seeds=(0,)))


def test_claims_leave_out_what_was_not_learnt():
    for value in (reads("plays-structured"), reads("plays-large"), reads("early-quality"), reads("ebert-dynamic")):
        for reason in value(sample(accuracy=0.52)).values():
            assert isinstance(reason, NotTestable) and "counting words 60.0%" in str(reason)
    # With one of the two tasks learnt, it alone counts.
    found = reads("ebert-quality")(sample(accuracy=0.59))
    assert isinstance(found[ORDER], NotTestable) and found[SHUFFLED] == pytest.approx([-0.01] * 2)
    # And pre-training has to be worth something.
    studied = sample()
    for r in studied["finetune"]:
        if r.spec["start"] == "random":
            r.metrics["test_accuracy"] = 0.95
    assert all("without pre-training" in str(reason) for reason in reads("plays-large")(studied).values())


def test_claims_say_what_is_missing():
    empty = {name: results() for name in sample()}
    for value in (
        reads("plays-structured"),
        reads("plays-harsh"),
        reads("plays-unstable"),
        reads("early-time"),
        reads("early-random"),
        reads("ebert-dynamic"),
        reads("ebert-layers"),
        reads("ebert-small"),
    ):
        with pytest.raises(NotTestable):
            value(empty)


def test_a_network_that_closed_everything_is_not_fast():
    studied = sample()
    for r in studied["ebert-speed"]:
        r.metrics["flops"] = 0.1
    with pytest.raises(NotTestable, match="closed nearly everything"):
        reads("ebert-latency")(studied)


def test_quality_at_sixty_per_cent_is_not_judged_at_another_target():
    studied = sample()
    studied["ebert"] = Results(tuple(r for r in studied["ebert"] if r.spec["parent"]["target"] == 0.4))
    with pytest.raises(NotTestable, match="60 %"):
        reads("ebert-quality")(studied)


def test_layers_are_compared_within_their_kind():
    found = emptiest(Census(torch.tensor([[1.0, 0.2], [0.2, 0.2]]), torch.tensor([[0.1] * 4, [0.1] * 4]), 0.5))
    assert found["emptiest_by_kind"] == pytest.approx(0.5)  # 0.2 of 0.4; few neurons, but as few everywhere
    assert found["layers_differ"] == pytest.approx(0.5) and found["emptiest_neurons"] == pytest.approx(0.1)
    closed = emptiest(Census(torch.zeros(2, 2), torch.zeros(2, 4), 0.0))
    assert np.isnan(closed["emptiest_by_kind"])


def test_few_examples_are_trained_for_as_many_steps():
    few = replace(WHOLE, size=replace(WHOLE.size, train=WHOLE.size.train // 4))
    found = ebert([WHOLE], [few], Structured(joint=3, tuned=2))
    (many, *_), (small,) = found["ebert"], found["ebert-small"]
    assert [4 * many.parent.recipe.epochs, 4 * many.recipe.epochs] == [small.parent.recipe.epochs, small.recipe.epochs]


def test_a_task_has_the_seeds_that_were_run():
    studied = sample()
    runs = studied["early-time"]
    studied["early-time"] = Results(runs.found[:-1])
    assert {task: len(found) for task, found in reads("early-time")(studied).items()} == {ORDER: 2, SHUFFLED: 1}
