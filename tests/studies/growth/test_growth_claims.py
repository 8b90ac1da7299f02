"""The growth chapter's claims and names: values worked out by hand come out of results filled in by hand."""

import json

import pytest

from claimed import reads
from lib.measure.statistics import NotTestable
from lib.runs.results import Missing, Outcome, Result, Results
from lib.runs.scales import SCALES
from lib.runs.spec import all_fields
from lib.studies.growth import studies as growth
from lib.studies.growth.gpt import GrowthRun
from lib.studies.growth.names import method, share
from lib.studies.growth.saving import needed, of_envelope

SPECS = growth.studies(growth.Parameters(scale="cpu", seeds=2))

#: What runs that a claim has no business with have measured: no loss, but a good one if it were.
DECOY = -9.0

LOSS, OLD = "test_bits_per_byte", "old_test_bits_per_byte"


def result(spec, metrics=None, arrays=None) -> Result:
    """As it comes back from its file; a run's compute is that of its Spec, its validation losses are its test losses."""
    compute = {"flops": spec.flops, "total_flops": spec.total_flops} if isinstance(spec, GrowthRun) else {}
    curves = {curve: [metrics[name]] for curve, name in {"bits_per_byte": LOSS, "old_val_loss": OLD}.items() if name in (metrics or {})}
    made = Result.of(spec, Outcome((metrics or {}) | compute, curves, arrays or {}), {"device": "cpu"})
    return Result(**{name: value for name, value in json.loads(json.dumps(made.content())).items() if name != "schema"})


def filled(study: str, measured: dict[str, dict[str, list]], specs=SPECS, holds=lambda one: True) -> Results:
    """The study's results: metrics of the methods named, one value for each of two seeds, decoys elsewhere.

    ``holds``: what else must be true of those that are named.
    """
    known = {name for values in measured.values() for name in values}
    found, seen = [], set()
    for spec in specs[study]:
        plain = result(spec)
        values = measured.get(method(plain), {}) if holds(plain) else {}
        seen |= {method(plain)} if values else set()
        found.append(result(spec, {name: value[spec.seed] for name, value in values.items()} or dict.fromkeys(known, DECOY)))
    assert seen == set(measured), f"{study} lacks {set(measured) - seen}"
    return Results(tuple(found))


def only(results: Results, *methods: str) -> Results:
    return Results(tuple(one for one in results if method(one) in methods))


def claim(name: str, **studies: Results) -> list[float]:
    return [pytest.approx(value) for value in reads(name)(studies)]


def compared(name: str, study: str, first: str, second: str, metric: str = LOSS) -> None:
    """The claim is the first method's metric minus the second's."""
    runs = filled(study, {first: {metric: [0.50, 0.60]}, second: {metric: [0.49, 0.63]}})
    assert claim(name, **{study: runs}) == [0.01, -0.03]
    with pytest.raises(NotTestable, match="no two (runs|results)"):
        claim(name, **{study: only(runs, first)})


# Names


def unseeded(value):
    """A Spec's fields without the seeds, its own and its parents'."""
    return {name: unseeded(part) for name, part in value.items() if name != "seed"} if isinstance(value, dict) else value


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("study", ["depth", "width", "upcycling", "faults", "moments", "continual", "dropout"])
def test_within_a_study_each_method_has_a_name_of_its_own(scale, study):
    named = {}
    for spec in growth.studies(growth.Parameters(scale=scale, seeds=2))[study]:
        named.setdefault(method(result(spec)), set()).add(json.dumps(unseeded(all_fields(spec)), sort_keys=True))
    assert all(len(runs) == 1 for runs in named.values())


# Savings: scratch's loss falls by a tenth with each doubling of the compute


def smaller(budgets=(0.5, 1.0, 2.0), losses=(9.2, 9.0, 8.8)) -> Results:
    """Networks of the sources' sizes from scratch, far worse than the final one unless said otherwise."""
    specs = sorted(SPECS["envelope"], key=lambda spec: spec.total_flops)
    flops = max(spec.total_flops for spec in specs)
    nearest = {spec: min(budgets, key=lambda budget: abs(spec.total_flops / flops * max(budgets) - budget)) for spec in specs}
    return Results(tuple(result(spec, {"test_loss": losses[budgets.index(nearest[spec])]}) for spec in specs))


def scratch(budgets=(0.5, 1.0, 2.0), losses=(2.2, 2.0, 1.8)) -> Results:
    by_steps = {round(budget * 600): loss for budget, loss in zip(budgets, losses)}
    dense = [spec for spec in SPECS["scratch"] if spec.model.moe is None and spec.steps in by_steps]
    assert len(dense) == 2 * len(budgets)
    return Results(tuple(result(spec, {"test_loss": by_steps[spec.steps]}) for spec in dense))


@pytest.mark.parametrize("values, name", [("net2net-sooner", "FFN width, Net2Net"), ("hypercloning-random", "width, noise 0 dB")])
def test_savings_with_the_source_free_of_charge(values, name):
    runs = filled("width", {name: {"test_loss": [2.0, 1.8]}})
    whole, further = pytest.approx(1 / 0.7, rel=0.02), pytest.approx(2 / 0.7, rel=0.02)
    assert reads(values)({"width": only(runs, name), "scratch": scratch(), "envelope": smaller()}) == [whole, further]


@pytest.mark.parametrize(
    "values, study, name", [("gstack-speedup", "depth", "depth, stacked"), ("gstack-width", "width", "width, unequal shares 1")]
)
def test_speedups_charge_the_source(values, study, name):
    runs = only(filled(study, {name: {"test_loss": [2.0, 1.8]}}), name)
    assert reads(values)({study: runs, "scratch": scratch(), "envelope": smaller()}) == pytest.approx([0, 1], abs=0.02)


def test_savings_need_smaller_networks_from_scratch():
    depth = filled("depth", {"depth, stacked": {"test_loss": [2.0, 2.0]}})
    part = smaller()
    part = Results(part[1:], (Missing(part[0], "not run"),))
    for envelope in (Results(()), part):
        with pytest.raises(NotTestable, match="not all networks smaller than the final one"):
            claim("gstack-speedup", depth=depth, scratch=scratch(), envelope=envelope)


@pytest.mark.parametrize("runs", [scratch((1.0,), (2.0,)), scratch(losses=(2.0, 2.1, 1.8))])
def test_savings_need_a_scratch_that_gets_better_with_compute(runs):
    depth = filled("depth", {"depth, stacked": {"test_loss": [2.0, 2.0]}})
    with pytest.raises(NotTestable, match="more compute lowered"):
        claim("gstack-speedup", depth=depth, scratch=runs, envelope=smaller(losses=(8.0, 8.1, 8.2)))


def test_growth_that_only_beats_too_large_a_network_saves_nothing():
    """The source's size from scratch reaches the grown network's loss with half of the compute: growth costs twice."""
    runs = only(filled("depth", {"depth, stacked": {"test_loss": [2.0, 2.0]}}), "depth, stacked")
    against_final = reads("gstack-speedup")({"depth": runs, "scratch": scratch(), "envelope": smaller()})
    assert against_final == pytest.approx([0, 0], abs=0.02)
    best = reads("gstack-speedup")({"depth": runs, "scratch": scratch(), "envelope": smaller(losses=(2.0, 1.8, 1.6))})
    assert best == pytest.approx([-0.5, -0.5], abs=0.03)


def test_the_envelope_is_the_least_compute_of_any_size():
    small, large = [(1.0, 2.0), (2.0, 1.9), (4.0, 1.85)], [(2.0, 2.1), (4.0, 1.8), (8.0, 1.6)]
    assert of_envelope(1.95, [small, large]) == pytest.approx(needed(1.95, *zip(*small)))
    assert of_envelope(1.7, [small, large]) == pytest.approx(needed(1.7, *zip(*large)))
    assert of_envelope(1.9, [[(1.0, 2.0)], large]) == pytest.approx(needed(1.9, *zip(*large)))  # one budget says nothing
    with pytest.raises(ValueError, match="no network from scratch"):
        of_envelope(1.9, [[(1.0, 2.0)], [(1.0, 2.0), (2.0, 2.5)], []])


# Comparisons of two methods


@pytest.mark.parametrize(
    "name, study, first, second",
    [
        ("hypercloning-noise", "dropout", "width, equal copies, dropout 0.1", "width, noise 0 dB, dropout 0.1"),
        ("lemon-uneven", "dropout", "width, equal copies, dropout 0.1", "width, unequal shares 1, dropout 0.1"),
        ("upcycling-dense", "upcycling", "dense, trained on", "experts"),
        ("drop-long", "upcycling", "experts", "experts, 50% re-drawn"),
        ("nvidia-gate", "upcycling", "experts, router 0.1", "experts, plain gates"),
        ("llamapro-learns", "continual", "dense, trained on", "depth, silent between, new blocks only"),
    ],
)
def test_differences_of_loss(name, study, first, second):
    compared(name, study, first, second)


def test_information_is_more_with_neurons_re_drawn():
    compared("drop-specialise", "upcycling", "experts, 50% re-drawn", "experts", metric="token_information")


def test_quarter_rate_against_the_full_one():
    width = filled("width", {"width, unequal shares 1": {LOSS: [0.49, 0.63]}})
    moments = filled("moments", {"width, unequal shares 1, lower rate": {LOSS: [0.50, 0.60]}})
    assert claim("lemon-rate", width=width, moments=moments) == [0.01, -0.03]


def test_groups_are_compared_in_per_cent_of_the_dense_loss():
    runs = filled("upcycling", {"dense, trained on": {LOSS: [0.5, 0.8]}, "experts, 2 groups": {LOSS: [0.48, 0.82]}})
    assert claim("nvidia-groups", upcycling=runs) == [0.04, -0.025]


def test_a_training_that_diverged_decides_nothing():
    runs = filled(
        "dropout",
        {
            "width, equal copies, dropout 0.1": {LOSS: [0.5, 0.6], "diverged": [False, False]},
            "width, noise 0 dB, dropout 0.1": {LOSS: [None, 0.6], "diverged": [True, False]},
        },
    )
    with pytest.raises(NotTestable, match="noise 0 dB, dropout 0.1' diverged with seed 0"):
        claim("hypercloning-noise", dropout=runs)
    with pytest.raises(NotTestable, match="without dropout and deterministic"):
        claim("hypercloning-noise", dropout=Results(()))


# Stacking against the best of the others

DEPTH = {
    "depth, stacked": {LOSS: [0.50, 0.60]},
    "depth, silent between": {LOSS: [0.52, 0.59]},
    "depth, silent on top": {LOSS: [0.49, 0.90]},
    "depth, interposed": {LOSS: [0.90, 0.90]},
    "depth, last block again": {LOSS: [0.90, 0.90]},
}
WIDTH = {f"width, {how}": {LOSS: [0.90, 0.55]} for how in ("equal copies", "noise 0 dB", "noise -6 dB", "unequal shares 1")}


def test_the_best_other_operator_is_chosen_on_the_other_seed():
    """On the second seed a width is best and does badly on the first; on the first it is the silent blocks on top, bad on the second."""
    depth, width = filled("depth", DEPTH), filled("width", WIDTH)
    assert claim("gstack-operators", depth=depth, width=width) == [0.90 - 0.50, 0.90 - 0.60]
    one = {name: Results(tuple(run for run in runs if run.spec["seed"] == 0)) for name, runs in (("depth", depth), ("width", width))}
    with pytest.raises(NotTestable, match="two seeds"):
        claim("gstack-operators", **one)


def test_a_stack_of_one_layer_is_no_stack():
    specs = growth.studies(growth.Parameters(scale="cpu", seeds=2, depth=2))
    with pytest.raises(NotTestable, match="one layer"):
        claim("gstack-operators", depth=filled("depth", DEPTH, specs), width=filled("width", WIDTH, specs))


# A mixture grown after half of the compute


def test_upcycling_against_a_mixture_from_scratch_of_the_same_steps():
    times = filled("times", {"experts": {LOSS: [0.49, 0.63]}}, holds=lambda one: abs(share(one) - 0.5) < 0.1)
    (steps,) = {one.spec["steps"] for one in times if one.metrics[LOSS] != DECOY}
    base = filled("scratch", {"experts, from scratch": {LOSS: [0.50, 0.60]}}, holds=lambda one: one.spec["steps"] == steps)
    assert claim("upcycling-scratch", times=times, scratch=base) == [0.01, -0.03]
    early = Results(tuple(one for one in times if share(one) < 0.4))
    with pytest.raises(NotTestable, match="after half"):
        claim("upcycling-scratch", times=early, scratch=base)


# LLaMA Pro

BLOCKS = "depth, silent between, new blocks only"


def test_forgetting_is_compared_with_the_full_training_that_forgets_less():
    runs = filled(
        "continual", {"dense, trained on": {OLD: [0.9, 1.0]}, "depth, silent between": {OLD: [0.8, 0.7]}, BLOCKS: {OLD: [0.6, 0.75]}}
    )
    assert claim("llamapro-keeps", continual=runs) == [0.2, -0.05]
    turned = filled(
        "continual", {"dense, trained on": {OLD: [0.9, 0.65]}, "depth, silent between": {OLD: [0.8, 0.7]}, BLOCKS: {OLD: [0.6, 0.75]}}
    )
    assert claim("llamapro-keeps", continual=turned) == [0.9 - 0.6, 0.7 - 0.75], "the one that forgets less on the other seed"
    with pytest.raises(NotTestable, match="none of those"):
        claim("llamapro-keeps", continual=only(runs, BLOCKS))


def test_what_new_blocks_forget():
    runs = filled("continual", {BLOCKS: {OLD: [0.60, 0.75], f"{OLD}_before": [0.59, 0.77]}})
    assert claim("llamapro-old-loss", continual=runs) == [0.01, -0.02]


# Exactness, paths, and the project


def test_exactness_is_the_worst_of_lemons_operators_for_each_network():
    arrays = {
        "operators": ["experts", "width, unequal shares", "depth, interleaved", "depth, on top"],
        "single": [[1.0, 1.0], [1e-6, 1e-7], [1e-7, 1e-5], [0.0, 0.0]],
    }
    assert claim("lemon-lossless", exactness=Results((result(SPECS["exactness"][0], arrays=arrays),))) == [-6, -5]


def test_paths_are_compared_by_their_largest_difference():
    runs = Results(tuple(result(spec, {"largest_difference": 10.0 ** -(13 + spec.seed)}) for spec in SPECS["commuting"]))
    assert claim("staged-dynamics", commuting=runs) == [-13, -14]


def test_the_projects_order_keeps_the_loss():
    before = {"loss_before": [2.0, 2.0]}
    runs = filled(
        "pipeline",
        {
            "experts": before | {"loss_after": [2.1, 2.0]},
            "experts → width": before | {"loss_after": [1.7, 2.0]},
            "experts → width → depth": before | {"loss_after": [2.0, 2.4]},
        },
    )
    assert claim("project-preserves", pipeline=runs) == [0.3, 0.4]
    with pytest.raises(NotTestable, match="experts → width → depth"):
        claim("project-preserves", pipeline=only(runs, "experts", "experts → width"))


def test_the_tied_fault_raises_the_loss():
    runs = filled("faults", {"width, tied fault": {"loss_before": [2.0, 2.0], "loss_after": [2.3, 3.0]}})
    assert claim("project-spike", faults=runs) == [0.3, 1.0]


def test_active_shares_of_the_projects_networks():
    counts = {
        f"{kind}_{name}": value
        for name, active in (("experts", 0.25), ("wide", 0.35), ("deep", 0.5))
        for kind, value in (("active_parameters", active), ("parameters", 1.0))
    }
    assert claim("project-active", presets=Results((result(SPECS["presets"][0], counts),))) == [0.05, 0, 0.1]
