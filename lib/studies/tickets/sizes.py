"""Lottery tickets in transformers: at which size it is run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lib.data.masked_lm import CHOSEN
from lib.models.encoder import EncoderConfig
from lib.studies.tickets.checkpoint import Checkpoint
from lib.studies.tickets.finetune import TaskSize
from lib.studies.tickets.structured import Structured
from lib.studies.tickets.text import Source
from lib.training.loop import Recipe


@dataclass(frozen=True)
class Anchor:
    """A task that the whole network is fine-tuned on with all its rows; without pre-training for the first seed only."""

    task: str
    size: TaskSize
    recipe: Recipe


@dataclass(frozen=True)
class OfWords:
    """Tickets of masked words on a checkpoint without a head for them.

    ``head``, ``steps``   recipe of the head on the frozen encoder, and its steps per epoch
    ``recipe``, ``size``  of each round of the tickets; as many windows of text per epoch as ``size.train``
    """

    head: Recipe
    steps: int
    recipe: Recipe
    size: TaskSize


@dataclass(frozen=True)
class Scale:
    """What a scale chooses.

    ``chosen``      share of the tokens that pre-training predicts
    ``tasks``       the first is the one that rewinding and standard pruning are tried on
    ``size``        of each task; ``few``: training examples where a task is to be small
    ``sparsities``  of the rounds of iterative pruning; the paper's are a tenth apart
    ``later``       shares of the first training after which rewinding takes the weights
    ``seeds``       of the main studies, ``side`` of rewinding, standard pruning and small tasks
    ``checkpoint``  a pre-trained encoder that is loaded; None: ``source``, ``model``, ``pretrain`` and ``steps`` make one
    ``mlm``         how tickets are sought on masked words; None: as on tasks
    ``anchor``      how a task is fine-tuned once on all of its rows, if it is
    ``structured``  see :class:`lib.studies.tickets.structured.Structured`; all of it on the first ``on`` tasks
    """

    source: Source
    model: EncoderConfig
    pretrain: Recipe
    steps: int
    tasks: tuple[str, ...]
    size: TaskSize
    recipe: Recipe
    sparsities: tuple[float, ...]
    structured: Structured
    on: int
    seeds: int
    side: int = 1
    few: int = 500
    later: tuple[float, ...] = (0.5,)
    chosen: float = CHOSEN
    checkpoint: Checkpoint | None = None
    mlm: OfWords | None = None
    anchor: Anchor | None = None


def adam(epochs: int, batch_size: int, lr: float, **changes) -> Recipe:
    return Recipe(epochs=epochs, batch_size=batch_size, lr=lr, weight_decay=0.01, **changes)


#: The sizes at which the book pre-trains its own encoder, "cpu" among them, which the distillation chapter distils.
HOME_MADE = {
    "smoke": Scale(
        Source(stories=200),
        EncoderConfig(width=32, depth=2, heads=4, hidden=64),
        adam(2, 16, 3e-3),
        20,
        ("shuffled", "order"),
        TaskSize(128, 64),
        adam(1, 32, 2e-3),
        (0.35, 0.7),
        Structured(
            looked=64,
            shares=(0.25,),
            untrained=("good",),
            harsh=("good", "random"),
            draws=("early", "late", "whole"),
            random=2,
            checks=6,
            targets=(0.4,),
            joint=1,
            tuned=1,
            predictor_lr=0.1,
            statics=("learnt", "important"),
            rounds=4,
        ),
        on=1,
        seeds=1,
        few=64,
    ),
    "laptop": Scale(
        Source(context=40),
        EncoderConfig(width=64, depth=2, heads=4, hidden=256),
        adam(4, 32, 3e-3),
        200,
        ("shuffled", "order"),
        TaskSize(680, 500),
        adam(3, 32, 1e-3),
        (0.35, 0.7),
        Structured(
            looked=250,
            shares=(0.25,),
            untrained=("good",),
            draws=("early", "late", "whole"),
            random=2,
            targets=(0.4,),
            joint=5,
            predictor_lr=0.1,
            statics=("usual", "important"),
            rounds=10,
        ),
        on=1,
        seeds=1,
        chosen=0.3,
    ),
    "cpu": Scale(
        Source("tinystories", 4_096, None, True, 48),
        EncoderConfig(width=96, depth=3, heads=4, hidden=384),
        adam(10, 32, 3e-3),
        600,
        ("name", "sst2"),
        TaskSize(2_500, 1_000),
        adam(3, 32, 2e-3),
        (0.3, 0.6, 0.7),
        Structured(joint=6, predictor_lr=0.1, statics=("usual", "important")),
        on=1,
        seeds=3,
        side=3,
        few=1_000,
        chosen=0.3,
    ),
    "gpu": Scale(
        Source("tinystories", 4_096, None, True, 64),
        EncoderConfig(width=256, depth=6, heads=8, hidden=1_024),
        adam(10, 128, 1e-3, precision="bf16"),
        1_000,
        ("sst2", "shuffled", "order", "name"),
        TaskSize(11_000, 2_000),
        adam(3, 128, 5e-4, precision="bf16"),
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
        Structured(targets=(0.4, 0.6), joint=4),
        on=1,
        seeds=3,
        few=2_000,
        later=(0.1, 0.5),
        chosen=0.3,
    ),
}


#: All train rows of every task.
ALL = 1_000_000

TENTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)

#: MiniLM-L6.  Its checkpoint has no head for masked words, so that one is trained before tickets are sought on them, in rounds
#: of a third of the length of a task's.  Rate and number of epochs are usual ones for encoders of this size, tried on TREC's
#: validation questions.
MINILM = replace(
    HOME_MADE["cpu"],
    checkpoint=Checkpoint(),
    mlm=OfWords(adam(3, 32, 1e-3), 200, adam(1, 32, 1e-4, schedule="linear"), TaskSize(4_096, 0)),
    tasks=("trec", "cola"),
    size=TaskSize(4_096, 0),
    recipe=adam(3, 32, 1e-4, schedule="linear"),
    sparsities=TENTHS,
    structured=Structured(targets=(0.4, 0.6), joint=3, tuned=1, predictor_lr=0.1, statics=("important",)),
    anchor=Anchor("sst2", TaskSize(ALL, 0), adam(2, 32, 1e-4, schedule="linear")),
)

#: On a GPU with SST-2 as well: all rows of the two small tasks and a third of its own, since tickets take the whole length a dozen times.
MINILM_ON_GPU = replace(
    MINILM,
    tasks=("trec", "cola", "sst2"),
    size=TaskSize(24_000, 0),
    recipe=replace(MINILM.recipe, precision="bf16"),
    anchor=None,
)

#: Sizes on the checkpoint.  At cpu they are asked for (``pretrained``) until enough of their results are stored to judge by.
PRETRAINED = {"cpu": MINILM, "gpu": MINILM_ON_GPU}

SIZES = HOME_MADE | {"gpu": MINILM_ON_GPU}
