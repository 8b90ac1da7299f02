"""The growth chapter's sizes: what each scale chooses."""

from __future__ import annotations

from dataclasses import dataclass

from lib.models.gpt import GPTConfig
from lib.studies.base.corpora import Corpus
from lib.training.loop import Recipe


@dataclass(frozen=True)
class Scale:
    """What a scale chooses.

    ``final``    the dense network that everything grows to, or its mixture of experts
    ``steps``    of its training from scratch; the compute of these is what every comparison spends in all
    ``budgets``  multiples of that compute at which scratch is trained, to tell what growth saves
    ``shares``   of the compute that a source gets before it grows; the first is the usual one
    ``points``   measurements along a run of all steps, each on ``watched`` tokens
    ``seeds``    behind every number
    ``variants`` of the model on which exactness is shown (tests try all 64)
    ``presets``  whether the student project's networks, of up to 1.6 billion parameters, are built
    """

    corpus: Corpus
    final: GPTConfig
    steps: int
    recipe: Recipe
    budgets: tuple[float, ...]
    shares: tuple[float, ...]
    points: int
    watched: int
    experts: int
    seeds: int
    rounds: int
    variants: int = 64
    presets: bool = False


ADAM = dict(betas=(0.9, 0.95), weight_decay=0.1)


SIZES = {
    "smoke": Scale(
        Corpus(stories=200, vocabulary=300),
        GPTConfig(vocabulary=300, context=32, width=16, depth=2, heads=2, hidden=32),
        steps=12,
        recipe=Recipe(batch_size=8, lr=5e-3, **ADAM),
        budgets=(1.0,),
        shares=(0.3,),
        points=2,
        watched=512,
        experts=4,
        seeds=1,
        rounds=2,
        variants=4,
    ),
    "laptop": Scale(
        Corpus(),
        GPTConfig(vocabulary=384, context=64, width=32, depth=4, heads=4, hidden=88),
        steps=96,
        recipe=Recipe(batch_size=8, lr=1e-2, **ADAM),
        budgets=(0.5, 1.0, 2.0),
        shares=(0.3,),
        points=6,
        watched=2048,
        experts=8,
        seeds=1,
        rounds=5,
        variants=16,
    ),
    "cpu": Scale(
        Corpus("tinystories", vocabulary=512),
        GPTConfig(vocabulary=512, context=128, width=64, depth=6, heads=4, hidden=176),
        steps=600,
        recipe=Recipe(batch_size=8, lr=1e-2, **ADAM),
        budgets=(0.5, 1.0, 2.0),
        shares=(0.3, 0.15, 0.5),
        points=8,
        watched=8192,
        experts=8,
        seeds=3,
        rounds=11,
        presets=True,
    ),
    "gpu": Scale(
        Corpus("tinystories", vocabulary=2048),
        # 3.9M parameters, which read 20 tokens each.
        GPTConfig(vocabulary=2048, context=256, width=192, depth=8, heads=4, hidden=512),
        steps=1200,
        recipe=Recipe(batch_size=256, lr=3e-3, precision="bf16", **ADAM),
        budgets=(0.5, 1.0, 2.0),
        shares=(0.3, 0.15, 0.5),
        points=20,
        watched=32_768,
        experts=8,
        seeds=3,
        rounds=31,
        presets=True,
    ),
}
