"""The distillation chapter's story tellers at each scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lib.runs.spec import Spec
from lib.studies.base.seeds import seeded
from lib.studies.distillation.stories import StoryStudent
from lib.studies.language.api import GPTS, reading


@dataclass(frozen=True)
class Stories:
    """What a scale chooses: teacher, untaught student and how it goes on, and the number of seeds.

    ``times``  how much longer a student that is its own control reads on
    """

    usual: StoryStudent
    seeds: int = 3
    times: int = 2


def taught(scale: str, start: dict[str, Any], **usual: Any) -> StoryStudent:
    """Return a student of the scale's GPT; ``start``: in what the untaught student differs from its teacher."""
    return StoryStudent(parent=GPTS[scale], start=replace(GPTS[scale], **start), **usual)


STORIES = {
    "smoke": Stories(
        taught("smoke", {"width": 8, "depth": 1}, tokens=128, steps=2, recipe=reading(2e-3, 1), prompt=4, told=4),
        seeds=1,
    ),
    "laptop": Stories(
        taught("laptop", {"width": 32, "depth": 1}, tokens=1024, steps=20, recipe=reading(4e-3, 1), told=64),
        seeds=1,
    ),
    "cpu": Stories(
        taught("cpu", {"width": 48, "depth": 2, "recipe": reading(8e-3, 4)}, steps=200, recipe=reading(4e-3, 4)),
    ),
    "gpu": Stories(
        taught(
            "gpu",
            {"width": 128, "depth": 4, "steps": 4_600},
            tokens=16_384,
            steps=1_000,
            recipe=replace(reading(1e-3, 4), precision="bf16"),
        ),
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
    usual, seeds = size.usual, range(size.seeds)
    return {
        "stories": seeded(seeds, *(replace(usual, author=author, target=target) for author, target in ARMS.values())),
        "stories longer": seeded(seeds, replace(usual, steps=size.times * usual.steps)),
    }
