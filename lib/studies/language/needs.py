"""What the language chapter's claims presuppose: the functions that ``data/claims.yml`` names under ``needs``, see :mod:`lib.studies.base.needs`.

Each is asked of both models.  A model for which it does not hold decides nothing (:func:`holds`), and where it holds for none the
claim is not testable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lib.measure.paired import crossed_mean
from lib.measure.statistics import NotTestable
from lib.runs.results import Results
from lib.studies.language.names import DRAW_NOTHING, MODELS, SMOL, calibration_tokens, table, windows
from lib.studies.language.names import model as model_of

Studies = Mapping[str, Results]

#: An input has outlier channels where its largest feature is so many times the median one: SmoothQuant's figure 4 shows a hundred.
OUTLIER = 10.0


#: Tokens of calibration text for each feature of the widest layer from which on more of it changed little (study "calibration").
ENOUGH = 7.0

#: Features of SmolLM2's widest layer.
WIDEST = 1536


def holds(need: Callable[[Studies, str], None], studies: Studies, which: str) -> NotTestable | None:
    """Why a need is not met for one model; None where it is."""
    try:
        need(studies, which)
    except NotTestable as reason:
        return reason
    return None


def for_one_at_least(need: Callable[[Studies, str], None], studies: Studies) -> None:
    """Raise NotTestable with all reasons where the need is met for no model."""
    reasons = [reason for which in MODELS if (reason := holds(need, studies, which))]
    if len(reasons) == len(MODELS):
        raise NotTestable("; ".join(dict.fromkeys(map(str, reasons))))


def dense_of(studies: Studies, which: str) -> dict[int, np.ndarray]:
    found = windows(studies["dense"], which, type="Untouched")
    if not found:
        raise NotTestable(f"{which} was not judged as it is")
    return found


def hurts(studies: Studies, which: str, study: str, what: str, **fields) -> None:
    """Raise NotTestable unless the interval of what the method costs in nats per token lies above 0."""
    apart = table(windows(studies[study], which, **fields), dense_of(studies, which), which, (fields.get("by") in DRAW_NOTHING, True))
    if apart is None:
        raise NotTestable(f"{what} was not run on {which}")
    cost = crossed_mean(apart)
    if not cost.low > 0:
        raise NotTestable(
            f"{what} costs {which} {cost.mean:.3f} nats per token, {cost.low:.3f} to {cost.high:.3f}: nothing is lost that a method could save"
        )


def dense_knows_more_than_counts(studies: Studies) -> None:
    """Need a dense model with a lower loss than counts of one or two tokens have."""

    def better(studies: Studies, which: str) -> None:
        own = [(r.metrics["loss"], r.metrics["simple_loss"], r.metrics["simple"]) for r in studies["dense"] if model_of(r) == which]
        if not own:
            raise NotTestable(f"{which} was not judged as it is")
        loss, simple, kind = float(np.mean([a for a, _, _ in own])), float(np.mean([b for _, b, _ in own])), own[0][2]
        if not loss < simple:
            raise NotTestable(
                f"{which} has a loss of {loss:.2f} nats per token, and a {kind} model {simple:.2f}: it has not learnt a language"
            )

    for_one_at_least(better, studies)


def half_hurts(studies: Studies, which: str) -> None:
    hurts(studies, which, "pruning", "magnitude pruning to half", by="magnitude", pattern="")


def pattern_hurts(studies: Studies, which: str) -> None:
    hurts(studies, which, "patterns", "magnitude pruning to 2:4", by="magnitude", pattern="2:4")


def three_bits_hurt(studies: Studies, which: str) -> None:
    hurts(studies, which, "rounding", "rounding to nearest at 3 bits", by="nearest", bits_each=3)


def eight_bit_activations_hurt(studies: Studies, which: str) -> None:
    hurts(studies, which, "activations", "plain rounding of weights and activations to 8 bits", by="nearest", activation_bits=8)


def four_bit_activations_hurt(studies: Studies, which: str) -> None:
    hurts(studies, which, "activations", "plain rounding of activations to 4 bits", by="nearest", activation_bits=4)


def removal_hurts(studies: Studies, which: str) -> None:
    """Asked of those with the least influence, as many as go at random: what random ones cost differs too much from draw to draw."""
    counts = {r.spec["method"]["count"] for r in studies["depth"] if model_of(r) == which and r.spec["method"]["by"] == "random"}
    if not counts:
        raise NotTestable(f"no random blocks were removed from {which}")
    hurts(studies, which, "depth", f"removing {min(counts)} blocks", by="influence", count=min(counts))


def activations_have_outliers(studies: Studies, which: str) -> None:
    """Asked of the inputs that norms write: those that SmoothQuant scales."""
    found = [r.metrics["channel_ratio"] for r in studies["layers"] if model_of(r) == which]
    if not found:
        raise NotTestable(f"what {which}'s layers read was not looked at")
    if max(found) < OUTLIER:
        raise NotTestable(
            f"the largest feature that a norm of {which} writes is {max(found):.1f} times the median one, and {OUTLIER:g} times are asked: "
            "there are no outlier channels"
        )


def fitted_with_enough(studies: Studies, which: str) -> None:
    """Asked of all runs of SparseGPT and GPTQ in these studies, but for those that vary the text on purpose."""
    fitted = [
        r
        for name, found in studies.items()
        if name != "calibration"
        for r in found
        if model_of(r) == which and r.spec["method"].get("by") in ("sparsegpt", "gptq")
    ]
    if not fitted:
        raise NotTestable(f"nothing was fitted to text for {which}")
    for r in fitted:
        widest = WIDEST if which == SMOL else 3 * r.spec["model"]["gpt"]["width"]
        if (share := (calibration_tokens(r) or 0) / widest) < ENOUGH:
            raise NotTestable(
                f"{which} was calibrated on {share:.1f} tokens for each feature of its widest layer, and {ENOUGH:g} are asked: "
                "a method that fits weights to so little text is held back by that"
            )


def fitted_methods_have_text(studies: Studies) -> None:
    """Need seven tokens of calibration text for each feature of the widest layer, where weights are fitted to it."""
    for_one_at_least(fitted_with_enough, studies)


def pruning_to_half_hurts(studies: Studies) -> None:
    """Need a model that magnitude pruning to half makes worse, for sure."""
    for_one_at_least(half_hurts, studies)


def pruning_to_two_in_four_hurts(studies: Studies) -> None:
    """Need a model that magnitude pruning to 2:4 makes worse, for sure."""
    for_one_at_least(pattern_hurts, studies)


def rounding_to_three_bits_hurts(studies: Studies) -> None:
    """Need a model that rounding to nearest at 3 bits makes worse, for sure."""
    for_one_at_least(three_bits_hurt, studies)


def plain_eight_bits_hurt(studies: Studies) -> None:
    """Need a model that plain rounding of weights and activations to 8 bits makes worse, for sure."""
    for_one_at_least(eight_bit_activations_hurt, studies)


def plain_four_bits_hurt(studies: Studies) -> None:
    """Need a model that plain rounding of activations to 4 bits makes worse, for sure."""
    for_one_at_least(four_bit_activations_hurt, studies)


def removing_blocks_hurts(studies: Studies) -> None:
    """Need a model that loses for sure when blocks go, even those with the least influence."""
    for_one_at_least(removal_hurts, studies)


def there_are_outlier_channels(studies: Studies) -> None:
    """Need a model whose norms write some feature at least ten times as large as the median one."""
    for_one_at_least(activations_have_outliers, studies)
