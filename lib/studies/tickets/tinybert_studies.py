"""TinyBERT: what is run, and at which size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from lib.data.masked_lm import CHOSEN
from lib.distillation.tinybert import layer_map
from lib.models.encoder import EncoderConfig
from lib.runs.spec import Spec
from lib.studies.tickets.finetune import FinetuneRun, TaskSize
from lib.studies.tickets.pretrain import PretrainRun
from lib.studies.tickets.sizes import HOME_MADE
from lib.studies.tickets.text import Source
from lib.studies.tickets.tinybert import GeneralRun, TinyRun
from lib.studies.tickets.words import BagOfWordsRun
from lib.training.loop import Recipe


@dataclass(frozen=True)
class Texts:
    """TinyBERT's part: the text, what is pre-trained and fine-tuned on which task, and the student.

    ``pretraining``   recipe of the teacher, and with ``epochs`` of their own of all that students learn before the task
    ``steps``     in each of these epochs
    ``tuning``, ``second``   recipes of the teacher's fine-tuning and of everything that students learn of the task
    ``copies``    of each example with words replaced
    ``chosen``    share of the tokens that pre-training hides
    ``seeds``     of TinyBERT and its controls, ``side`` of its parts and layer maps
    """

    source: Source
    teacher: EncoderConfig
    student: EncoderConfig
    task: str
    size: TaskSize
    pretraining: Recipe
    epochs: int
    steps: int
    tuning: Recipe
    second: Recipe
    copies: int
    chosen: float = CHOSEN
    seeds: int = 3
    side: int = 1


def of_home_made(scale: str, task: str, student: EncoderConfig, epochs: int, second: Recipe, copies: int, side: int = 1) -> Texts:
    """The book's own pre-trained encoder and its fine-tuned ones as teachers, which the other studies train anyway."""
    size = HOME_MADE[scale]
    return Texts(
        size.source,
        size.model,
        student,
        task,
        size.size,
        size.pretrain,
        epochs,
        size.steps,
        size.recipe,
        second,
        copies,
        size.chosen,
        side=side,
    )


TEXTS = {
    "smoke": Texts(
        Source(vocabulary=384, context=32),
        EncoderConfig(width=16, depth=2, heads=2, hidden=32),
        EncoderConfig(width=8, depth=1, heads=2, hidden=16),
        "order",
        TaskSize(64, 64),
        Recipe(epochs=1, batch_size=16, lr=3e-3),
        1,
        4,
        Recipe(epochs=1, batch_size=32, lr=2e-3),
        Recipe(epochs=4, batch_size=32, lr=2e-3),
        copies=1,
        seeds=1,
    ),
    "laptop": Texts(
        Source(vocabulary=512),
        EncoderConfig(width=48, depth=2, heads=4, hidden=192),
        EncoderConfig(width=24, depth=1, heads=4, hidden=96),
        "shuffled",
        TaskSize(640, 400),
        Recipe(epochs=4, batch_size=32, lr=3e-3),
        4,
        40,
        Recipe(epochs=6, batch_size=32, lr=2e-3),
        Recipe(epochs=8, batch_size=32, lr=3e-3),
        copies=1,
        seeds=1,
    ),
    "cpu": of_home_made(
        "cpu",
        "name",
        EncoderConfig(width=48, depth=3, heads=4, hidden=192),
        5,
        Recipe(epochs=8, batch_size=32, lr=2e-3),
        copies=1,
        side=3,
    ),
    "gpu": of_home_made(
        "gpu",
        "sst2",
        EncoderConfig(width=96, depth=2, heads=8, hidden=384),
        4,
        Recipe(epochs=8, batch_size=64, lr=1e-3, precision="bf16"),
        copies=3,
    ),
}


def tinybert_studies(texts: Texts) -> dict[str, list[Spec]]:
    """TinyBERT, its controls, its parts and its layer maps.

    Teachers and students of each seed begin with the same pre-trained weights, as all networks of this chapter do.
    """
    pretrained = PretrainRun(source=texts.source, model=texts.teacher, recipe=texts.pretraining, steps=texts.steps, chosen=texts.chosen)
    teacher = FinetuneRun(parent=pretrained, task=texts.task, size=texts.size, recipe=texts.tuning)
    first = replace(texts.pretraining, epochs=texts.epochs)
    general = GeneralRun(parent=pretrained, model=texts.student, recipe=first, steps=texts.steps)
    alone = replace(pretrained, model=texts.student, recipe=first)
    tiny = TinyRun(teacher=teacher, model=texts.student, first=general, copies=texts.copies, recipe=texts.second)
    depths = texts.student.depth, texts.teacher.depth
    # One layer has no order to keep: which layer it follows says little about maps.
    maps = [name for name in ("top", "bottom") if depths[0] > 1 and layer_map(*depths, name) != layer_map(*depths)]

    def tuned(seeds: Iterable[int], *runs: TinyRun) -> list[Spec]:
        return [replace(run, seed=seed, teacher=replace(run.teacher, seed=seed)) for run in runs for seed in seeds]

    side = range(min(texts.side, texts.seeds))
    return {
        "tinybert words": [BagOfWordsRun(source=texts.source, task=texts.task, size=texts.size)],
        "tinybert": tuned(
            range(texts.seeds),
            tiny,
            replace(tiny, first=alone, lesson="labels", copies=0),
            replace(tiny, first=None, lesson="labels", copies=0),
        ),
        "tinybert parts": tuned(side, replace(tiny, first=None), replace(tiny, lesson="answers"), replace(tiny, copies=0)),
        "layer maps": tuned(side, *(replace(tiny, map=name, first=replace(general, map=name)) for name in maps)),
    }
