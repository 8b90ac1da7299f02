"""Guessing a sub-network's accuracy from its size: a search looks at thousands, and measuring each would take hours."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from lib.elastic.config import Size, Space
from lib.elastic.encode import Encoding
from lib.system.checks import require

#: Of the measured sub-networks, one in this many is held out to judge the predictor by.
HELD_OUT = 4

FOLDS = 4


@dataclass(frozen=True)
class Quality:
    """How predictions agree with measurements: rank correlations (Kendall's τ-b, Spearman's ρ; NaN where all
    values are alike) and the root of the mean squared error, over ``n`` pairs."""

    kendall_tau: float
    spearman: float
    rmse: float
    n: int


def quality(predicted: Sequence[float], measured: Sequence[float]) -> Quality:
    predicted, measured = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
    tau = rho = float("nan")
    if np.ptp(predicted) and np.ptp(measured):
        tau, rho = stats.kendalltau(predicted, measured).statistic, stats.spearmanr(predicted, measured).statistic
    return Quality(float(tau), float(rho), float(np.sqrt(np.mean((predicted - measured) ** 2))), len(measured))


@dataclass(frozen=True, eq=False)
class AccuracyPredictor:
    """Accuracies of sizes: ``predictor(sizes)`` is an array [N] of fractions.

    ``model``        "mlp", "ridge" or "trees", the one with the lowest error in cross-validation
    ``errors``       that error (RMSE) of each
    ``held_out``     quality on sub-networks that neither fitting nor choosing has seen
    """

    encoding: Encoding
    model: str
    errors: dict[str, float]
    held_out: Quality
    regressor: object

    @classmethod
    def fit(cls, space: Space, sizes: Sequence[Size], accuracies: Sequence[float], seed: int = 0) -> AccuracyPredictor:
        """Choose a model, judge it on a quarter of the sub-networks, then fit it to all of them.

        Once-for-All (arXiv 1908.09791, sec. 3.4) has an MLP on one-hot choices, fitted to 16,000 sub-networks;
        from a hundred, a model that presumes more may learn more, so two others compete with it: linear
        regression with products of two numbers, and boosted trees.
        Raises ValueError for fewer than 8 sub-networks.
        """
        from sklearn.exceptions import ConvergenceWarning  # imported here: slow, and only needed for this
        from sklearn.model_selection import cross_val_predict

        require(
            len(sizes) == len(accuracies) and len(sizes) >= 8,
            f"{len(sizes)} sub-networks with {len(accuracies)} accuracies: measure at least 8 to fit a predictor",
        )
        encoding, target = Encoding(space), np.asarray(accuracies, dtype=float)
        order = np.random.default_rng(seed).permutation(len(sizes))
        held, rest = np.split(order, [len(sizes) // HELD_OUT])
        rows = {name: features(name, encoding, sizes) for name in MODELS}
        with warnings.catch_warnings():
            # The MLP's iterations are limited on purpose: stopping early keeps it smooth.
            warnings.simplefilter("ignore", ConvergenceWarning)
            errors = {
                name: quality(cross_val_predict(regressor(name, seed), rows[name][rest], target[rest], cv=FOLDS), target[rest]).rmse
                for name in MODELS
            }
            chosen = min(errors, key=errors.get)
            tried = regressor(chosen, seed).fit(rows[chosen][rest], target[rest])
            final = regressor(chosen, seed).fit(rows[chosen], target)
        held_out = quality(tried.predict(rows[chosen][held]), target[held])
        return cls(encoding, chosen, errors, held_out, final)

    def __call__(self, sizes: Sequence[Size]) -> np.ndarray:
        return np.clip(self.regressor.predict(features(self.model, self.encoding, sizes)), 0, 1)


MODELS = ("mlp", "ridge", "trees")


def features(model: str, encoding: Encoding, sizes: Sequence[Size]) -> np.ndarray:
    return (encoding.one_hot if model == "mlp" else encoding.ordinal)(sizes)


def regressor(model: str, seed: int):
    """An unfitted scikit-learn regressor."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.linear_model import RidgeCV
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    if model == "mlp":
        mlp = MLPRegressor(hidden_layer_sizes=(64, 64), alpha=1.0, solver="lbfgs", max_iter=50, random_state=seed)
        return TransformedTargetRegressor(mlp, transformer=StandardScaler())  # accuracies differ by little
    if model == "ridge":
        return make_pipeline(PolynomialFeatures(2, include_bias=False), RidgeCV(np.logspace(-3, 2, 11)))
    return GradientBoostingRegressor(n_estimators=150, max_depth=3, subsample=0.7, random_state=seed)
