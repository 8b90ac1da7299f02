"""The tickets chapter's studies at every scale, its knobs, the names of its runs, and the values behind its claims about tickets."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

import pytest

from lib.data.titles import title
from lib.measure.statistics import NotTestable
from lib.models.encoder import EncoderConfig
from lib.runs.results import Result, Results
from lib.runs.spec import Spec, all_fields
from lib.runs.store import Store, obtain
from lib.studies.tickets import claims, sizes
from lib.studies.tickets import pretrain as tickets_pretrain
from lib.studies.tickets.checkpoint import CheckpointRun
from lib.studies.tickets.counted import counted, uncounted
from lib.studies.tickets.finetune import FinetuneRun
from lib.studies.tickets.lth import IterativeRun, SubnetworkRun
from lib.studies.tickets.lth_values import matrix
from lib.studies.tickets.names import method, origin
from lib.studies.tickets.pretrain import PretrainRun
from lib.studies.tickets.sizes import HOME_MADE, PRETRAINED, SIZES
from lib.studies.tickets.studies import Parameters, studies
from lib.studies.tickets.text import Source
from lib.studies.tickets.words import BagOfWordsRun
from lib.studies.tickets.words_head import WordsHeadRun

#: What claims and tables call the two tasks.
ORDER, SHUFFLED = title("order"), title("shuffled")

#: Whose name says how they were measured, not what they are.
UNNAMED = {"tickets-early-search", "tickets-early-time", "tickets-ebert-speed"}


def result(spec: Spec, metrics=None, curves=None) -> Result:
    return Result(spec.experiment, spec.key, all_fields(spec), metrics or {}, curves or {}, {}, {"device": "none"})


def nested(spec: Spec):
    """A Spec and all that it builds on."""
    yield spec
    for field in fields(spec):
        value = getattr(spec, field.name)
        if isinstance(value, Spec):
            yield from nested(value)


def encoders(found: dict[str, list[Spec]]) -> dict[str, list[Spec]]:
    """The studies of one encoder; TinyBERT's have tests of their own."""
    return {name: specs for name, specs in found.items() if not name.startswith("tinybert") and name != "layer maps"}


@pytest.mark.parametrize("scale", SIZES)
def test_every_scale_has_its_specs_once(scale):
    found = encoders(studies(Parameters(scale=scale)))
    every = [spec for specs in found.values() for spec in specs]
    assert all(found.values()) and len({spec.key for spec in every}) == len(every)
    inner = {one for spec in every for one in nested(spec)}
    checkpoints = (PretrainRun, CheckpointRun, WordsHeadRun)
    assert {spec for spec in inner if isinstance(spec, checkpoints)} == {*found["pretrain"], *found.get("words-head", ())}  # one checkpoint
    assert all(spec.seed == one.seed for spec in every for one in nested(spec) if not isinstance(one, checkpoints))
    assert {spec.ticket for spec in found["transfer"] if spec.ticket} <= set(found["tickets"])  # nothing is found twice
    tasks = SIZES[scale].tasks
    assert len(found["transfer"]) == SIZES[scale].seeds * len(tasks) * (len(tasks) + 1)
    for spec in every:
        if spec.experiment not in UNNAMED:
            assert isinstance(method(result(spec)), str)


def test_the_paper_prunes_a_tenth_of_the_original_weights_in_each_round():
    for scale in PRETRAINED.values():
        sparsities = scale.sparsities
        assert [round(b - a, 6) for a, b in zip((0.0, *sparsities), sparsities)] == [0.1] * 7


def test_knobs():
    chosen = studies(Parameters(scale="laptop", tasks="name, order", epochs=5, sparsity=0.5, seeds=2))
    assert {spec.task for spec in chosen["tickets"]} == {"mlm", "name", "order"}
    assert all(spec.sparsities == (0.35, 0.5) and spec.recipe.epochs == 5 for spec in chosen["tickets"])
    assert {spec.sparsity for spec in chosen["transfer"]} == {0.5} and {spec.seed for spec in chosen["transfer"]} == {0, 1}
    for wrong, message in (
        ({"tasks": "ordr"}, "'order', 'shuffled'"),
        ({"epochs": 0}, "epochs"),
        ({"sparsity": 1.0}, "sparsity"),
        ({"seeds": 0}, "seeds"),
        ({"scale": "huge"}, "scale"),
    ):
        with pytest.raises(ValueError, match=message):
            Parameters(**wrong)


def test_runs_are_called_what_they_are():
    found = studies(Parameters(scale="laptop"))
    assert {method(result(spec)) for spec in found["controls"]} == {"random mask", "ticket, random weights", "ticket, shuffled weights"}
    assert {method(result(spec)) for spec in found["transfer"]} >= {"ticket of masked words", "smallest pre-trained weights"}
    assert {origin(result(spec)) for spec in found["transfer"]} == {"mlm", "shuffled", "order", "direct"}
    assert method(result(found["rewinding"][0])) == "ticket, rewound to 50%"
    assert method(result(found["standard"][0])) == "standard pruning"


def shrunk(value):
    """The same Spec, small enough to run in a moment: fewer layers, examples, steps, epochs and sentences."""
    if isinstance(value, Source):
        return Source(vocabulary=512, stories=100, context=40)
    if isinstance(value, EncoderConfig):
        return replace(value, width=16, depth=2, heads=2, hidden=24)
    if not is_dataclass(value):
        return value
    small = {
        "steps": 2,
        "epochs": 1,
        "batch_size": 8,
        "train": 16,
        "held_out": 16,
        "looked": 8,
        "rounds": 2,
        "batches": (1, 4),
        "task": "order",
        "checks": 2,
    }
    changes = {field.name: small.get(field.name, shrunk(getattr(value, field.name))) for field in fields(value)}
    if isinstance(value, (IterativeRun, SubnetworkRun)) and value.task == "mlm":
        changes["task"] = "mlm"
    return replace(value, **changes)


@pytest.mark.parametrize("study", encoders(studies(Parameters(scale="laptop"))))
def test_what_is_meant_for_a_gpu_runs(study, tmp_path_factory, monkeypatch):
    """The book's own encoder at its largest, shrunk, on a CPU: bf16 included."""
    monkeypatch.setattr(tickets_pretrain, "EVALUATED", 64)
    monkeypatch.setitem(sizes.SIZES, "gpu", HOME_MADE["gpu"])
    specs = studies(Parameters(scale="gpu"))[study]
    kinds = {}
    for spec in specs:
        kinds.setdefault(
            (
                type(spec),
                getattr(spec, "masks", None),
                getattr(spec, "how", None),
                getattr(spec, "draw", None),
                getattr(spec, "start", None),
            ),
            shrunk(spec),
        )
    store = Store(tmp_path_factory.mktemp("reference"), tmp_path_factory.getbasetemp() / "tickets-gpu")
    found = obtain(kinds.values(), store=store)
    assert len(found) == len(set(kinds.values())) and not found.missing


# Values behind claims

PARENT = PretrainRun()
TASKS = ("order", "shuffled")


def made(accuracies: dict[tuple[str, str], float], seed: int = 0, dense: float = 0.9) -> tuple[list[Result], list[Result]]:
    """Tickets and transfers with these test accuracies by (source, target)."""
    tickets, transfer = [], []
    for (source, target), accuracy in accuracies.items():
        ticket = IterativeRun(parent=PARENT, task=source, sparsities=(0.35, 0.7), seed=seed) if source != "direct" else None
        metrics = {"test_accuracy": accuracy, "val_accuracy": accuracy, "dense_val_accuracy": dense, "dense_test_accuracy": dense}
        if source == target:
            tickets.append(result(ticket, metrics, {"sparsity": [0, 0.35, 0.7], "test_accuracy": [dense, dense - 0.01, accuracy]}))
        else:
            transfer.append(
                result(SubnetworkRun(parent=PARENT, ticket=ticket, task=target, seed=seed, masks="ticket" if ticket else "direct"), metrics)
            )
    return tickets, transfer


GRID = {
    ("mlm", "mlm"): 0.4,
    ("order", "order"): 0.88,
    ("shuffled", "shuffled"): 0.86,
    ("mlm", "order"): 0.87,
    ("mlm", "shuffled"): 0.85,
    ("order", "shuffled"): 0.80,
    ("shuffled", "order"): 0.82,
    ("direct", "order"): 0.85,
    ("direct", "shuffled"): 0.84,
}


def as_studies(*pairs) -> dict[str, Results]:
    tickets, transfer = zip(*pairs)
    return {"tickets": Results(tuple(sum(tickets, []))), "transfer": Results(tuple(sum(transfer, []))), **RIVALS}


#: What the whole network has to beat on both tasks.
RIVALS = {
    "words": Results(tuple(result(BagOfWordsRun(task=task), {"test_accuracy": 0.6}) for task in TASKS)),
    "from-scratch": Results(tuple(result(FinetuneRun(parent=PARENT, task=task, start="random"), {"test_accuracy": 0.5}) for task in TASKS)),
}


def each(*numbers: float):
    """The same values for both tasks."""
    return {task: pytest.approx(list(numbers)) for task in TASKS}


def test_transfer_values():
    found = as_studies(made(GRID), made(GRID | {("mlm", "order"): 0.70, ("direct", "order"): 0.60}, seed=1))
    assert matrix(found)[0]["mlm"] == {"order": 0.87, "shuffled": 0.85}
    assert claims.mlm_minus_other_tasks(found) == {ORDER: pytest.approx([0.05, -0.12]), SHUFFLED: pytest.approx([0.05, 0.05])}
    assert claims.mlm_minus_direct(found) == {ORDER: pytest.approx([0.02, 0.10]), SHUFFLED: pytest.approx([0.01, 0.01])}
    assert claims.whole_minus_ticket(found) == {ORDER: pytest.approx([0.02] * 2), SHUFFLED: pytest.approx([0.04] * 2)}


def test_who_wins_on_most_tasks_takes_three(monkeypatch):
    found = as_studies(made(GRID), made(GRID | {("mlm", "order"): 0.70, ("direct", "order"): 0.60}, seed=1))
    with pytest.raises(NotTestable, match="takes 3"):
        claims.mlm_wins_minus_most(found)
    monkeypatch.setattr("lib.studies.tickets.lth_values.LEAST_TASKS", 2)
    assert claims.mlm_wins_minus_most(found) == [2.0, 0.0]  # both; then one, the other ticket the other


def test_tasks_that_nobody_has_learnt_are_left_out():
    low = made(GRID, dense=0.55)
    found = as_studies(low)
    assert counted(found) == [] and set(uncounted(found)) == set(TASKS)
    for value in (claims.mlm_minus_direct, claims.whole_minus_ticket):
        assert all(isinstance(reason, NotTestable) for reason in value(found).values())
    with pytest.raises(NotTestable):
        claims.mlm_wins_minus_most(found)
    for rival in RIVALS:
        assert set(uncounted(as_studies(made(GRID)) | {rival: Results(())})) == set(TASKS), rival


def test_control_values():
    tickets = made(GRID)[0] + made(GRID, seed=1)[0]
    scores = {"random": (0.75, 0.70), "shuffled": (0.60, 0.72)}  # validation, test: the first is chosen

    def control(task, masks, start, val, test, seed):
        ticket = IterativeRun(parent=PARENT, task=task, sparsities=(0.35, 0.7), seed=seed) if masks == "ticket" else None
        return result(
            SubnetworkRun(parent=PARENT, ticket=ticket, task=task, masks=masks, start=start, seed=seed),
            {"val_accuracy": val, "test_accuracy": test},
        )

    controls = [control(task, "random", "pretrained", 0.8, 0.8, seed) for task in TASKS for seed in (0, 1)]
    controls += [control(task, "ticket", start, *found, seed) for task in TASKS for start, found in scores.items() for seed in (0, 1)]
    found = {"tickets": Results(tuple(tickets)), "controls": Results(tuple(controls)), **RIVALS}
    assert claims.ticket_minus_random_mask(found) == {ORDER: pytest.approx([0.08] * 2), SHUFFLED: pytest.approx([0.06] * 2)}
    assert claims.ticket_minus_best_other_weights(found) == {ORDER: pytest.approx([0.18] * 2), SHUFFLED: pytest.approx([0.16] * 2)}
    with pytest.raises(ValueError, match="both meant for task order and seed 0"):
        claims.ticket_minus_random_mask(found | {"controls": Results((*controls, replace(controls[0], key="another")))})


def test_rewinding_and_standard_values():
    tickets = made(GRID)[0] + made(GRID, seed=1)[0]
    base = IterativeRun(parent=PARENT, task="order", sparsities=(0.35, 0.7))
    ways = [(0.1, 0.80, 0.89), (0.5, 0.82, 0.86), (None, 0.9, 0.85)]
    rewound = [
        result(replace(base, rewind=rewind, seed=seed), {"val_accuracy": val, "test_accuracy": test})
        for rewind, val, test in ways
        for seed in (0, 1)
    ]
    found = {
        "tickets": Results(tuple(tickets)),
        "rewinding": Results(tuple(rewound[:4])),
        "standard": Results(tuple(rewound[4:])),
        **RIVALS,
    }
    assert claims.rewound_minus_ticket(found) == {ORDER: pytest.approx([0.86 - 0.88] * 2)}
    assert claims.ticket_minus_standard(found) == {ORDER: pytest.approx([0.03] * 2)}
