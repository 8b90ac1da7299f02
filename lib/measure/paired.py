"""Two networks on the same test images: how far their accuracies are apart, and how sure that is.

Two things make a measured difference of accuracies uncertain.  Another seed trains another network, and another test set
asks other questions.  An interval over seeds alone keeps the test set as it is; one over images alone keeps the networks.
Here both are drawn again, and because all networks answer the same images, what an image has in common for both sides
cancels out.

References: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 8 and 13.  Dietterich, Approximate
Statistical Tests for Comparing Supervised Classification Learning Algorithms, 1998 (McNemar's test).  Bouthillier et al.,
Accounting for Variance in Machine Learning Benchmarks, 2021, arXiv 2103.03098 (all sources of variation together, paired).
Owen, The pigeonhole bootstrap, 2007 (rows and columns drawn together).  Hillis, A comparison of denominator degrees of
freedom methods for multiple observer ROC analysis, 2007 (the same question, asked of readers and patients).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from lib.measure.statistics import Estimate
from lib.system.checks import require


@dataclass(frozen=True)
class Difference(Estimate):
    """A difference of two accuracies, from ``n`` pairs of seeds that answered ``images`` images.

    covers: what the interval allows for, ``"seeds and images"``, or ``"images"`` where there is one pair of
    seeds and nothing to learn about others from.
    """

    images: int
    covers: str


def paired_bootstrap(first: ArrayLike, second: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Difference:
    """Accuracy of ``first`` minus that of ``second``, with the percentile interval of a two-way bootstrap.

    ``first``, ``second``  bool [S, N], or [N] for one seed: whether seed s was right about test image i

    Each resample draws S seeds and N images with replacement, the same for both sides.  With one seed only images are drawn,
    and ``covers`` says so: the interval is then about these two networks, not about the two ways to train them.

    How wide it is (Owen): what an image and a seed do together counts up to three times, so where seeds only flip different
    images the interval is too wide, on the safe side.  What a seed does to all images at once counts (S - 1) / S times: where
    that dominates, a handful of seeds gives too narrow an interval, and :func:`crossed` a better one.
    Raises ValueError for shapes that differ or are empty, and for what is not true or false.
    """
    require(0 < level < 1 and resamples >= 1, f"level {level} must lie in (0, 1), and resamples {resamples} be at least 1")
    apart = differences(first, second)
    seeds, images = apart.shape
    random = np.random.default_rng(seed)
    # Images are of at most 3^S kinds, by what they say of each pair of seeds.  To draw images is to draw their kinds.
    codes = 3 ** np.arange(seeds) @ (apart + 1)
    _, places, sizes = np.unique(codes, return_index=True, return_counts=True)
    drawn = random.multinomial(images, sizes / images, size=resamples) @ apart[:, places].T / images  # [resamples, S]
    weights = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    low, high = np.quantile((weights * drawn).sum(1), [(1 - level) / 2, (1 + level) / 2])
    return Difference(float(apart.mean()), float(low), float(high), seeds, images, covered(seeds))


def crossed(first: ArrayLike, second: ArrayLike, *, level: float = 0.95) -> Difference:
    """The same difference with a t interval from the variances of seeds, of images and of the two together.

    With the mean squares of a table of S seeds and N images (one difference of answers in each cell) the variance of the
    mean is (MS_seed + max(MS_image - MS_both, 0)) / (S N), on (that sum / MS_seed)² (S - 1) degrees of freedom (Hillis), and here
    never less than MS_image / (S N), what the images alone leave open.
    It keeps its level with three seeds, where resampling three of them cannot; with two it leaves out the truth about twice
    as often as it should.  With one seed: the normal interval over images.
    Arguments and errors as :func:`paired_bootstrap`; it needs two images.
    """
    return crossed_mean(differences(first, second), level=level)


def crossed_mean(apart: ArrayLike, *, level: float = 0.95) -> Difference:
    """The mean of a table [S seeds, N items], or [N] of one seed, with the interval of :func:`crossed`: of differences of losses, say."""
    require(0 < level < 1, f"level {level} must lie in (0, 1)")
    apart = np.atleast_2d(np.asarray(apart, dtype=float))
    require(
        apart.ndim == 2 and apart.size > 0 and bool(np.isfinite(apart).all()),
        f"a table of {apart.shape}: give finite numbers [seeds, items]",
    )
    seeds, images = apart.shape
    require(images > 1, "one image has no variance: give the answers to two or more")
    mean = apart.mean()
    over_seeds, of_items = None, 0.0
    if seeds == 1:
        spread, freedom = apart.var(ddof=1), np.inf
    else:
        by_seed, by_image = apart.mean(1), apart.mean(0)
        seed_square, image_square = images * by_seed.var(ddof=1), seeds * by_image.var(ddof=1)
        rest = apart - by_seed[:, None] - by_image + mean
        both_square = (rest**2).sum() / ((seeds - 1) * (images - 1))
        shared = max(image_square - both_square, 0.0)
        over_seeds = float(stats.t.ppf((1 + level) / 2, seeds - 1) * np.sqrt(seed_square / (seeds * images)))
        of_items = float(stats.norm.ppf((1 + level) / 2) * np.sqrt(shared / (seeds * images)))
        spread = seed_square + shared
        freedom = (seeds - 1) * (spread / seed_square) ** 2 if seed_square else np.inf
        spread = max(spread, image_square)  # seeds that agree by chance do not make the images certain
    half = float(stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(spread / (seeds * images)))
    low, high = float(mean - half), float(mean + half)
    return Difference(float(mean), low, high, seeds, images, covered(seeds), over_seeds=over_seeds, of_items=of_items)


def mcnemar(first: ArrayLike, second: ArrayLike) -> float:
    """Two-sided p value of McNemar's exact test, for one pair of networks: bool [N] each.

    Of the images that one network has right and the other wrong, either is right on half if they are equally good.  Images
    that both have right, or both wrong, say nothing.  1.0 where there are no others.
    Raises ValueError as :func:`paired_bootstrap`, and for several seeds.
    """
    apart = differences(first, second)
    require(len(apart) == 1, f"got {len(apart)} seeds: the test compares two networks, give one seed of each")
    won, lost = int((apart > 0).sum()), int((apart < 0).sum())
    return float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0


def marked(difference: Estimate) -> str:
    """``"above"`` or ``"below"`` where the whole interval of a difference is, ``"like"`` where it holds 0 or there is none.

    "like" means not told apart at this number of seeds and images; it does not prove that they are equal.
    """
    if difference.low is None or difference.high is None or difference.low <= 0 <= difference.high:
        return "like"
    return "above" if difference.low > 0 else "below"


def overlapping(first: Estimate, second: Estimate) -> bool:
    """Whether two intervals have a value in common: such rows are not told apart.  Also where one of them has no interval.

    More careful than :func:`marked`: intervals of two means may overlap although that of their difference leaves out 0.
    """
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return True
    return first.low <= second.high and second.low <= first.high


def differences(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """int8 [S, N]: 1 where only ``first`` was right, -1 where only ``second`` was, else 0."""
    sides = [np.atleast_2d(np.asarray(side)) for side in (first, second)]
    require(
        sides[0].shape == sides[1].shape and sides[0].ndim == 2 and sides[0].size,
        f"answers are {sides[0].shape} and {sides[1].shape}: give [seeds, images], alike, at least one of each",
    )
    require(all(side.dtype == bool for side in sides), "answers must be true or false: for each image whether it was right")
    return sides[0].astype(np.int8) - sides[1].astype(np.int8)


def covered(seeds: int) -> str:
    return "seeds and images" if seeds > 1 else "images"
