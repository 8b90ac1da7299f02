"""The distillation chapter's story tellers at each scale."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lib.runs.spec import Spec
from lib.studies.base.corpora import Corpus
from lib.studies.base.seeds import seeded
from lib.studies.distillation.stories import StoryStudent
from lib.studies.language.api import LanguageGPT
from lib.training.loop import Recipe


@dataclass(frozen=True)
class Stories:
    """What a scale chooses: teacher, untaught student, how it goes on, and the number of seeds.

    ``times``  how much longer a student that is its own control reads on
    """

    teacher: LanguageGPT
    start: LanguageGPT
    usual: StoryStudent
    seeds: int = 3
    times: int = 2


def reading(lr: float, epochs: int) -> Recipe:
    return Recipe(epochs=epochs, lr=lr, betas=(0.9, 0.95), weight_decay=0.1)


#: The smoke scale's few stories, in windows of 32 tokens.
BRIEF = LanguageGPT(
    corpus=Corpus(stories=200, vocabulary=300),
    context=32,
    width=16,
    depth=3,
    heads=2,
    tokens=256,
    steps=20,
    recipe=reading(1e-2, 2),
    watched=256,
)

#: What the language chapter compresses, too.
TELLER = LanguageGPT(
    corpus=Corpus("tinystories", vocabulary=512), width=96, depth=6, tokens=4096, steps=400, recipe=reading(4e-3, 4), watched=32_768
)

#: The same with 30M parameters, which read 20 tokens each.
LARGE = replace(
    TELLER,
    corpus=Corpus("tinystories", vocabulary=4096),
    context=256,
    width=512,
    depth=8,
    heads=8,
    tokens=32_768,
    steps=18_400,
    recipe=replace(reading(1e-3, 8), precision="bf16", compile=True),
    watched=131_072,
)

#: Each scale's sizes; parent and start of the usual run follow from the first two.
STORIES = {
    "smoke": Stories(
        BRIEF,
        replace(BRIEF, width=8, depth=1),
        StoryStudent(parent=BRIEF, start=BRIEF, tokens=128, steps=2, recipe=reading(2e-3, 1), prompt=4, told=4),
        seeds=1,
    ),
    "laptop": Stories(
        LanguageGPT(steps=150),
        LanguageGPT(steps=150, width=32, depth=1),
        StoryStudent(tokens=1024, steps=20, recipe=reading(4e-3, 1), told=64),
        seeds=1,
    ),
    "cpu": Stories(
        TELLER,
        replace(TELLER, width=48, depth=2, recipe=reading(8e-3, 4)),
        StoryStudent(parent=TELLER, start=TELLER, steps=200, recipe=reading(4e-3, 4)),
    ),
    "gpu": Stories(
        LARGE,
        replace(LARGE, width=128, depth=4, steps=4_600),
        StoryStudent(parent=LARGE, start=LARGE, tokens=16_384, steps=1_000, recipe=replace(reading(1e-3, 4), precision="bf16")),
    ),
}
#: Who writes and what is paid for, by how the arm is called.
ARMS = {
    "text alone": ("data", "text"),
    "sequence-level KD": ("teacher", "text"),
    "word-level KD": ("data", "forward"),
    "reverse KL, people's texts": ("data", "reverse"),
    "forward KL, own texts": ("student", "forward"),
    "reverse KL, own texts": ("student", "reverse"),
}


def story_studies(size: Stories) -> dict[str, list[Spec]]:
    """Main: one student for each pair of author and target.  Its control reads people's texts alone, for longer."""
    usual = replace(size.usual, parent=size.teacher, start=size.start)
    seeds = range(size.seeds)
    return {
        "stories": seeded(seeds, *(replace(usual, author=author, target=target) for author, target in ARMS.values())),
        "stories longer": seeded(seeds, replace(usual, steps=size.times * usual.steps)),
    }
