"""The elastic chapter's claims and names: values worked out by hand come out of results filled in by hand."""

import json

import pytest

from claimed import reads
from lib.measure.statistics import NotTestable
from lib.runs.results import Outcome, Result, Results
from lib.runs.scales import SCALES
from lib.runs.spec import all_fields
from lib.studies.elastic import claims as elastic_claims
from lib.studies.elastic import studies as elastic
from lib.studies.elastic.names import curves, frame, method

SPECS = elastic.studies(elastic.Parameters(scale="cpu", seeds=2))

#: What runs that a claim has no business with have measured.
DECOY = 9.0


def result(spec, metrics=None, arrays=None, curves=None) -> Result:
    """As it comes back from its file."""
    made = Result.of(spec, Outcome(metrics or {}, curves or {}, arrays or {}), {"device": "cpu"})
    return Result(**{name: value for name, value in json.loads(json.dumps(made.content())).items() if name != "schema"})


def filled(study: str, measured: dict[str, dict[str, list]], specs=SPECS) -> Results:
    """The study's results: metrics (or arrays) of the methods named, one value for each of two seeds, decoys elsewhere."""
    known = {name for values in measured.values() for name in values}
    found = []
    for spec in specs[study]:
        seed = getattr(spec, "parent", spec).seed
        values = {name: value[seed] for name, value in measured.get(method(result(spec)), {}).items()}
        values = values or dict.fromkeys(known, DECOY)
        arrays = {name: value for name, value in values.items() if isinstance(value, list)}
        found.append(result(spec, {name: value for name, value in values.items() if name not in arrays}, arrays))
    missed = set(measured) - {method(one) for one in found}
    assert not missed, f"{study} has no {missed}"
    return Results(tuple(found))


def without(results: Results, *methods: str) -> Results:
    return Results(tuple(one for one in results if method(one) not in methods))


def claim(name: str, **studies: Results) -> list[float]:
    return [pytest.approx(value) for value in reads(name)(studies)]


def accuracies(**by_size: list[float]) -> dict[str, list[float]]:
    return {f"test_accuracy_{name}": values for name, values in by_size.items()}


# Names


def unseeded(value):
    """A Spec's fields without the seeds, its own and its parents'."""
    if isinstance(value, dict):
        return {name: unseeded(part) for name, part in value.items() if name != "seed"}
    return value


@pytest.mark.parametrize("scale", SCALES)
def test_within_a_study_each_method_has_a_name_of_its_own(scale):
    for study, specs in elastic.studies(elastic.Parameters(scale=scale, seeds=2)).items():
        named = {}
        for spec in specs:
            fields = json.dumps([spec.experiment, unseeded(all_fields(spec))], sort_keys=True)
            named.setdefault(fields, set()).add(method(result(spec)))
        assert all(len(names) == 1 for names in named.values()), study
        names = [name for names in named.values() for name in names]
        assert len(names) == len(set(names)), (study, names)


@pytest.mark.parametrize(
    "study, names",
    [
        (
            "samplers",
            [
                "rigid",
                "ERNIE",
                "ERNIE, first experts",
                "uniform",
                "sandwich",
                "sandwich, labels only",
                "project's weights",
                "project's phases, equal ones merged",
                "project's phases",
                "progressive shrinking",
            ],
        ),
        ("twins", ["twin, 4 layers, 4 heads, 6 experts of 64, k=2", "twin, 3 layers, 4 heads, 4 experts of 64, k=1"]),
        ("axes", ["rigid", "ERNIE, depth only", "ERNIE, experts only", "ERNIE, k only"]),
        ("sparsity", ["rigid", "trained at k=1", "trained at k=4", "one k per step", "layer-wise k", "co-activation"]),
        ("gates", ["rigid", "ERNIE", "rigid, gate p", "ERNIE, gate p", "rigid, loss-free bias", "ERNIE, loss-free bias"]),
        ("subsets", ["rigid", "ERNIE", "ERNIE, first experts"]),
        (
            "recovery",
            [
                "rigid, nothing trained",
                "rigid, routers trained",
                "rigid, everything trained",
                "ERNIE, nothing trained",
                "ERNIE, routers trained",
                "ERNIE, everything trained",
            ],
        ),
        (
            "matformer",
            [
                "nested widths",
                "nested widths, twice the steps",
                "dense, width 16",
                "dense, width 32",
                "dense, width 64",
                "dense, width 128",
            ],
        ),
        ("baselines", ["CNN, large", "CNN, small", "distillation", "pruning"]),
        ("pace", ["ERNIE", "uniform", "sandwich", "project's weights", "progressive shrinking"]),
        ("dynamic", ["dynamic"]),
        ("extraction", ["ERNIE"]),
        ("search", ["uniform"]),
        ("sandwich", ["sandwich", "sandwich, labels only", "uniform, 4 per step"]),
        ("mixtures", ["nested widths, twice the steps"]),
    ],
)
def test_names(study, names):
    assert list(dict.fromkeys(method(result(spec)) for spec in SPECS[study])) == names


def test_tables_have_the_name_in_front_and_curves_beside():
    runs = Results(tuple(result(spec, {"accuracy": 0.5}, curves={"val_accuracy": [0.1, 0.2]}) for spec in SPECS["axes"][:3]))
    assert list(frame(runs).columns)[0] == "method"
    assert list(frame(runs)["method"]) == ["rigid", "rigid", "ERNIE, depth only"]
    assert list(curves(runs, "val_accuracy")["method"]) == ["rigid"] * 4 + ["ERNIE, depth only"] * 2


# ERNIE 5.0


def test_elastic_depth_and_experts_against_the_rigid_network():
    runs = filled(
        "axes",
        {
            "rigid": accuracies(large=[0.50, 0.60]),
            "ERNIE, depth only": accuracies(large=[0.51, 0.58]),
            "ERNIE, experts only": accuracies(large=[0.47, 0.60]),
        },
    )
    assert claim("ernie-depth-free", axes=runs) == [0.01, -0.02]
    assert claim("ernie-experts-free", axes=runs) == [-0.03, 0.0]


def test_what_a_third_of_the_network_keeps():
    runs = filled("samplers", {"ERNIE": accuracies(large=[0.50, 0.80], budget=[0.45, 0.80])})
    assert claim("ernie-retention", samplers=runs) == [0.9, 1.0]


def test_what_a_third_keeps_cannot_be_told_without_one_or_of_an_untrained_network():
    with pytest.raises(NotTestable, match="few parameters"):
        claim("ernie-retention", samplers=filled("samplers", {"ERNIE": accuracies(large=[0.5, 0.5])}))
    with pytest.raises(NotTestable, match="20%"):
        claim("ernie-retention", samplers=filled("samplers", {"ERNIE": accuracies(large=[0.1, 0.1], budget=[0.1, 0.1])}))
    one = filled("samplers", {"ERNIE": accuracies(large=[0.1, 0.4], budget=[0.1, 0.3])})
    assert claim("ernie-retention", samplers=one) == [0.75]


# US-Nets and Once-for-All


def test_sandwich_against_random_at_the_ends():
    runs = filled(
        "sandwich",
        {
            "sandwich, labels only": accuracies(large=[0.50, 0.60], smallest=[0.40, 0.30]),
            "uniform, 4 per step": accuracies(large=[0.46, 0.60], smallest=[0.42, 0.32]),
        },
    )
    assert claim("usnets-sandwich", sandwich=runs) == [0.01, -0.01]


def test_distillation_counts_the_smaller_sub_networks_only():
    late = filled(
        "late distillation",
        {"sandwich, distilled after 30%": accuracies(large=[0.9, 0.9], medium=[0.5, 0.5], small=[0.4, 0.4], smallest=[0.33, 0.24])},
    )
    runs = filled(
        "sandwich", {"sandwich, labels only": accuracies(large=[0.1, 0.1], medium=[0.5, 0.5], small=[0.4, 0.4], smallest=[0.3, 0.3])}
    )
    assert claim("usnets-distillation", sandwich=runs, **{"late distillation": late}) == [0.01, -0.02]
    with pytest.raises(NotTestable, match="nearly random teacher"):
        claim("usnets-distillation", sandwich=runs, **{"late distillation": Results(())})


def test_progressive_against_random_over_four_sizes():
    runs = filled(
        "samplers",
        {
            "progressive shrinking": accuracies(large=[0.60, 0.6], medium=[0.5, 0.5], small=[0.4, 0.4], smallest=[0.3, 0.3]),
            "uniform": accuracies(large=[0.56, 0.6], medium=[0.5, 0.5], small=[0.4, 0.4], smallest=[0.3, 0.38]),
        },
    )
    assert claim("ofa-progressive", samplers=runs) == [0.01, -0.02]


PROGRESSIVE = {
    "progressive shrinking": {"size_medium": ["3 layers"] * 2, "size_small": ["2 layers"] * 2}
    | accuracies(medium=[0.50, 0.50], small=[0.40, 0.40])
}
TWINS = {
    "twin, 4 layers, 4 heads, 6 experts of 64, k=2": {"size_large": ["3 layers"] * 2} | accuracies(large=[0.52, 0.50]),
    "twin, 3 layers, 4 heads, 4 experts of 64, k=1": {"size_large": ["2 layers"] * 2} | accuracies(large=[0.36, 0.42]),
}


def test_progressive_against_twins_of_the_same_size():
    samplers, twins = filled("samplers", PROGRESSIVE), filled("twins", TWINS)
    assert claim("ofa-twins", samplers=samplers, twins=twins) == [0.01, -0.01]


def test_both_twins_are_needed():
    twins = without(filled("twins", TWINS), "twin, 3 layers, 4 heads, 4 experts of 64, k=1")
    with pytest.raises(NotTestable, match="no two runs"):
        claim("ofa-twins", samplers=filled("samplers", PROGRESSIVE), twins=twins)


# MatFormer

NESTED = {
    "nested widths, twice the steps": accuracies(hidden_16=[0.1, 0.1], hidden_32=[0.2, 0.2], hidden_64=[0.3, 0.3], hidden_128=[0.44, 0.32])
}
LONG_TWINS = {
    "dense, width 16": accuracies(large=[0.1, 0.1]),
    "dense, width 32": accuracies(large=[0.2, 0.2]),
    "dense, width 64": accuracies(large=[0.3, 0.3]),
    "dense, width 128": accuracies(large=[0.4, 0.4]),
}


def test_nested_widths_against_dense_twins():
    assert claim("matformer-twins", matformer=filled("matformer", NESTED), lengths=filled("lengths", LONG_TWINS)) == [0.01, -0.02]


def test_nested_widths_need_every_twin_and_the_long_training():
    runs, twins = filled("matformer", NESTED), filled("lengths", LONG_TWINS)
    with pytest.raises(NotTestable, match="no twin was trained for as many steps"):
        claim("matformer-twins", matformer=runs, lengths=without(twins, "dense, width 32"))
    with pytest.raises(NotTestable, match="no nested network"):
        claim("matformer-twins", matformer=without(runs, "nested widths, twice the steps"), lengths=twins)


def test_twins_are_as_long_as_the_nested_network():
    (nested,) = {spec.recipe.epochs for spec in SPECS["matformer"] if spec.sampler and spec.equal == "steps"}
    assert {spec.recipe.epochs for spec in SPECS["lengths"] if spec.moe is None} == {nested}


def test_mixtures_against_the_line_between_their_widths():
    rows = [[[24, 24], 100, 0, 0.2], [[24, 48], 150, 0, 0.36], [[48, 48], 200, 0, 0.4], [[48, 96], 300, 0, 0.42], [[96, 96], 400, 0, 0.5]]
    above = [row if row[1] != 300 else [*row[:3], 0.45] for row in rows]
    runs = filled("mixtures", {"nested widths, twice the steps": {"mixtures": [rows, above]}})
    assert claim("matformer-mix", mixtures=runs) == [0.015, 0.03]  # heights: 0.06 and -0.03, then 0.06 and 0
    alone = filled("mixtures", {"nested widths, twice the steps": {"mixtures": [rows[::2], rows[::2]]}})
    with pytest.raises(NotTestable, match="one layer"):
        claim("matformer-mix", mixtures=alone)


# Experts per token

LAYERWISE = {"layer-wise k": accuracies(k_1=[0.50, 0.50], k_2=[0.55, 0.55], k_3=[0.60, 0.58], k_4=[0.60, 0.59])}


def test_layer_wise_k_against_one_k_per_step():
    one = accuracies(k_1=[0.46, 0.50], k_2=[0.55, 0.55], k_3=[0.60, 0.60], k_4=[0.60, 0.61])
    runs = filled("sparsity", LAYERWISE | {"one k per step": one})
    assert claim("matryoshka-layerwise", sparsity=runs) == [0.01, -0.01]


def test_layer_wise_k_against_mixtures_trained_at_one_k():
    runs = filled(
        "sparsity",
        LAYERWISE
        | {
            "trained at k=1": accuracies(large=[0.47, 0.50]),
            "rigid": accuracies(large=[0.55, 0.58]),
            "trained at k=4": accuracies(large=[0.60, 0.62]),
        },
    )
    assert claim("matryoshka-specialists", sparsity=runs) == [0.01, -0.02]
    for name in ("trained at k=4", "layer-wise k"):
        with pytest.raises(NotTestable):
            claim("matryoshka-specialists", sparsity=without(runs, name))


KS = [1, 2, 3, 4, 6, 8]


def walls(name: str, first: list[float], second: list[float], ks=KS) -> Results:
    return filled("sparsity", {name: {"wall_k": [ks, ks], "wall_accuracy": [first, second]}})


def test_the_wall_is_looked_for_at_three_times_k():
    runs = walls("rigid", [0.4, 0.50, 0.50, 0.49, 0.47, 0.1], [0.4, 0.50, 0.50, 0.50, 0.51, 0.1])
    assert claim("elasticmoe-wall", sparsity=runs) == [-0.03, 0.01]


@pytest.mark.parametrize(
    "accuracies_by_k, times",
    [
        ([0.1, 0.500, 0.499, 0.505, 0.498, 0.400], 3.0),  # 0.2 points below still counts
        ([0.9, 0.500, 0.490, 0.500, 0.500, 0.500], 1.0),  # what comes after a loss does not count, nor a smaller k
        ([0.1, 0.500, 0.500, 0.490, 0.500, 0.500], 1.5),
        ([0.1, 0.500, 0.500, 0.500, 0.500, 0.500], 4.0),
    ],
)
def test_usable_range(accuracies_by_k, times):
    runs = walls("co-activation", accuracies_by_k, [0.1, 0.5, 0.5, 0.5, 0.4, 0.4])
    assert claim("elasticmoe-range", sparsity=runs) == [times, 2.0]


@pytest.mark.parametrize("claim_id, name", [("elasticmoe-wall", "rigid"), ("elasticmoe-range", "co-activation")])
def test_four_experts_are_too_few_for_the_wall(claim_id, name):
    with pytest.raises(NotTestable, match="too few experts"):
        claim(claim_id, sparsity=walls(name, [0.4, 0.5, 0.5, 0.5], [0.4, 0.5, 0.5, 0.5], ks=KS[:4]))


# All of them


def test_seeds_that_are_not_shared_are_left_out():
    runs = filled("axes", {"rigid": accuracies(large=[0.50, 0.60]), "ERNIE, depth only": accuracies(large=[0.51, 0.58])})
    second = Results(tuple(one for one in runs if method(one) != "rigid" or one.fields["seed"] == 1))
    assert claim("ernie-depth-free", axes=second) == [-0.02]
    neither = Results(tuple(one for one in runs if one.fields["seed"] == (method(one) == "rigid")))
    with pytest.raises(NotTestable, match="same seed"):
        claim("ernie-depth-free", axes=neither)


def test_methods_that_are_not_told_apart_are_an_error():
    with pytest.raises(ValueError, match="one method"):
        elastic_claims.scores(filled("axes", {"rigid": accuracies(large=[0.5, 0.6])}), "test_accuracy_large")
