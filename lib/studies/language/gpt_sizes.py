"""The book's own GPT that tells stories, at each scale: what the language chapter compresses, and the distillation chapter's teacher."""

from __future__ import annotations

from dataclasses import replace

from lib.studies.base.corpora import Corpus
from lib.studies.language.gpt import LanguageGPT
from lib.training.loop import Recipe


def reading(lr: float, epochs: int) -> Recipe:
    """Return how a GPT reads stories at this rate, measured so many times."""
    return Recipe(epochs=epochs, lr=lr, betas=(0.9, 0.95), weight_decay=0.1)


GPTS = {
    "smoke": LanguageGPT(
        corpus=Corpus(stories=200, vocabulary=300),
        context=32,
        width=16,
        depth=3,
        heads=2,
        tokens=256,
        steps=20,
        recipe=reading(1e-2, 2),
        watched=256,
    ),
    "laptop": LanguageGPT(steps=150),
    "cpu": LanguageGPT(
        corpus=Corpus("tinystories", vocabulary=512),
        width=96,
        depth=6,
        tokens=4096,
        steps=400,
        recipe=reading(4e-3, 4),
        watched=32_768,
    ),
    # 30M parameters, which read 20 tokens each.
    "gpu": LanguageGPT(
        corpus=Corpus("tinystories", vocabulary=4096),
        context=256,
        width=512,
        depth=8,
        heads=8,
        tokens=32_768,
        steps=18_400,
        recipe=replace(reading(1e-3, 8), precision="bf16", compile=True),
        watched=131_072,
    ),
}
