"""The values behind the language chapter's claims: one function per claim of ``data/claims.yml``.

Each returns, by model, the ratio of two perplexities with its 95 % interval over seeds and test windows: the same windows on both
sides.  A model for which the claim's need does not hold gets the reason instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lib.measure.statistics import Estimate, NotTestable, why
from lib.runs.results import Results
from lib.studies.language import needs
from lib.studies.language.names import DRAW_NOTHING, MODELS, ratio, table, windows

Studies = Mapping[str, Results]
Parts = dict[str, Estimate | NotTestable]

#: Runs that an interval over seeds needs.
SEEDS = 3


def compared(
    studies: Studies, study: str, first: Mapping, second: Mapping, *asked: Callable[[Studies, str], None], base: str | None = None
) -> Parts:
    """Perplexity of the runs of ``study`` with fields ``first`` over that of those with fields ``second``, of ``base`` where that is given."""
    found: Parts = {}
    for which in MODELS:
        mine, other = windows(studies[study], which, **first), windows(studies[base or study], which, **second)
        apart = table(mine, other, which, (first.get("by") in DRAW_NOTHING, second.get("by") in DRAW_NOTHING))
        if apart is None:
            continue  # a model that this scale leaves out
        reasons = [reason for need in asked if (reason := needs.holds(need, studies, which))]
        if len(apart) < SEEDS:
            reasons.append(NotTestable(f"{len(apart)} of {SEEDS} seeds of {which} are there"))
        found[which] = reasons[0] if reasons else ratio(apart)
    if not found:
        raise NotTestable(f"the two that are compared were not both run{why(studies[study])}")
    return found


def sparsegpt_half(studies: Studies) -> Parts:
    return compared(
        studies,
        "pruning",
        {"by": "sparsegpt", "pattern": ""},
        {"by": "magnitude", "pattern": ""},
        needs.half_hurts,
        needs.fitted_with_enough,
    )


def sparsegpt_pattern(studies: Studies) -> Parts:
    return compared(
        studies,
        "patterns",
        {"by": "sparsegpt", "pattern": "2:4"},
        {"by": "magnitude", "pattern": "2:4"},
        needs.pattern_hurts,
        needs.fitted_with_enough,
    )


def sparsegpt_joint(studies: Studies) -> Parts:
    """Half of the weights at 4 bits against all at 3."""
    return compared(studies, "joint", {"by": "sparsegpt", "bits_left": 4}, {"by": "gptq", "bits_each": 3}, needs.fitted_with_enough)


def wanda_half(studies: Studies) -> Parts:
    return compared(studies, "pruning", {"by": "wanda", "pattern": ""}, {"by": "magnitude", "pattern": ""}, needs.half_hurts)


def wanda_pattern(studies: Studies) -> Parts:
    return compared(studies, "patterns", {"by": "wanda", "pattern": "2:4"}, {"by": "magnitude", "pattern": "2:4"}, needs.pattern_hurts)


def wanda_over_sparsegpt(studies: Studies) -> Parts:
    return compared(
        studies, "pruning", {"by": "wanda", "pattern": ""}, {"by": "sparsegpt", "pattern": ""}, needs.half_hurts, needs.fitted_with_enough
    )


def wanda_rows(studies: Studies) -> Parts:
    """Weights compared within a row against within a layer."""
    return compared(studies, "rows", {"by": "wanda", "per": "row"}, {"by": "wanda", "per": "layer"})


def gptq_three_bits(studies: Studies) -> Parts:
    return compared(
        studies,
        "rounding",
        {"by": "gptq", "bits_each": 3},
        {"by": "nearest", "bits_each": 3},
        needs.three_bits_hurt,
        needs.fitted_with_enough,
    )


def gptq_four_bits(studies: Studies) -> Parts:
    """Against the dense model."""
    return compared(studies, "rounding", {"by": "gptq", "bits_each": 4}, {}, needs.fitted_with_enough, base="dense")


def awq_three_bits(studies: Studies) -> Parts:
    return compared(studies, "rounding", {"by": "awq", "bits_each": 3}, {"by": "nearest", "bits_each": 3}, needs.three_bits_hurt)


def awq_over_gptq(studies: Studies) -> Parts:
    return compared(
        studies, "rounding", {"by": "awq", "bits_each": 3}, {"by": "gptq", "bits_each": 3}, needs.three_bits_hurt, needs.fitted_with_enough
    )


def smoothquant_over_plain(studies: Studies) -> Parts:
    return compared(
        studies,
        "activations",
        {"by": "smoothquant", "activation_bits": 8},
        {"by": "nearest", "activation_bits": 8},
        needs.activations_have_outliers,
        needs.eight_bit_activations_hurt,
    )


def smoothquant_over_dense(studies: Studies) -> Parts:
    return compared(studies, "activations", {"by": "smoothquant", "activation_bits": 8}, {}, needs.activations_have_outliers, base="dense")


def rotation_over_plain(studies: Studies) -> Parts:
    """At 4-bit activations."""
    return compared(
        studies,
        "activations",
        {"by": "rotation", "activation_bits": 4},
        {"by": "nearest", "activation_bits": 4},
        needs.four_bit_activations_hurt,
    )


def influence_over_random(studies: Studies) -> Parts:
    """As many blocks by Block Influence as at random."""
    counts = {result.spec["method"]["count"] for result in studies["depth"] if result.spec["method"]["by"] == "random"}
    found: Parts = {}
    for count in counts:
        try:
            found |= compared(studies, "depth", {"by": "influence", "count": count}, {"by": "random", "count": count}, needs.removal_hurts)
        except NotTestable:
            continue
    if not found:
        raise NotTestable(f"blocks were not removed in both ways{why(studies['depth'])}")
    return found
