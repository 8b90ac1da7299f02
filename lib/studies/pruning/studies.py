"""Pruning: what is run, and at which size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from lib.data.images import check_name
from lib.models.mlp import MLPConfig
from lib.models.vgg import VGGConfig
from lib.pruning.structure import structure
from lib.pruning.trainers import TRAINERS, Plan
from lib.pruning.trainers.rigl import check_exchangeable
from lib.runs.spec import Spec
from lib.studies.base.images import SHAPES, other_shape
from lib.studies.base.parameters import ChapterParameters, given, numbers
from lib.studies.base.seeds import with_seed
from lib.studies.pruning.barrier import BarrierRun
from lib.studies.pruning.coarsen import CoarseRun, levels
from lib.studies.pruning.cocktail import CocktailRun
from lib.studies.pruning.dense import DenseRun
from lib.studies.pruning.init import InitialRun
from lib.studies.pruning.meta import PruningNetRun
from lib.studies.pruning.quantize import PackedRun, QuantizedRun, TorchaoRun
from lib.studies.pruning.sizes import SIZES, Scale
from lib.studies.pruning.speed import SpeedRun
from lib.studies.pruning.ticket_claims import FIFTH, SLACK
from lib.studies.pruning.tickets import CONTROLS, ControlRun, TicketRun
from lib.studies.pruning.train import SparseRun, own
from lib.system.checks import require

#: Methods that begin with the trained dense network; the others begin with a new one and train for as long as both together.
FROM_TRAINED = ("gradual", "granet", "safe")
FROM_NEW = ("rigl", "acdc", "str", "probmask")

#: Scores that are compared at initialisation.
SCORES = ("synflow", "magnitude", "snip", "grasp", "random")

#: Structures that are compared at one density; the last allows no less than a half.
SHAPES_COMPARED = ("unstructured", "balanced", "kernel", "column", "pattern", "block 4x4", "filter", "2:4")

#: Ways to coarsen tickets, and channels that are pruned directly.
COARSE_FORMS = ("refill", "regroup", "channels")

#: Studies of dense networks that are trained twice as long: of VGG, the residual network and LeNet.
LONGER = ("longer", "tickets longer", "lenet longer")


@dataclass(frozen=True, kw_only=True)
class Parameters(ChapterParameters):
    """The chapter's knobs.  A knob left at None follows the scale."""

    dataset: str | None = None  # digits | mnist | cifar10 | cifar100
    epochs: int | None = None  # of a run that prunes
    ratios: str | None = None  # compression ratios, the smallest first
    structure: str | None = None  # in which the trainers prune; one whose pieces can be exchanged one by one
    rewind: int | None = None  # step to which tickets go back

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset is not None:
            check_name(self.dataset)
        if self.structure is not None:
            check_exchangeable(structure(self.structure), self.structure)  # our recipe exchanges pieces
        require(self.epochs is None or self.epochs >= 1, f"epochs must be at least 1, not {self.epochs}")
        require(self.rewind is None or self.rewind >= 1, f"rewind must be a step from 1, not {self.rewind}: step 0 is tried anyway")
        if self.ratios is not None:
            require(
                sorted(self.numbers) == list(self.numbers) and self.numbers[0] > 1,
                f"ratios is {self.ratios!r}: give numbers above 1, separated by commas, the smallest first",
            )

    @property
    def numbers(self) -> tuple[float, ...]:
        """The wanted ratios as numbers."""
        return numbers("ratios", self.ratios)


def studies(parameters: Parameters) -> dict[str, list[Spec]]:
    """The Specs of each study by name; see the chapter for what each shows."""
    size = sized(parameters)
    seeds, few = range(size.seeds), range(min(size.few, size.seeds))

    def seeded(*specs: Spec, seeds: Iterable[int] = seeds) -> list[Spec]:
        return [with_seed(spec, seed) for spec in specs for seed in seeds]

    ours, gradual = own_run(size, size.compared), gradual_run(size, size.compared)
    plain, warm = ticket_parents(size)
    early, late = (TicketRun(parent=plain, levels=size.levels, amount=size.amount, rewind=step) for step in (0, size.rewind))
    warmed = replace(early, parent=warm)
    judged = tuple(sorted({fifth(size), size.levels}))
    lenet = TicketRun(parent=size.lenet, levels=size.lenet_levels, amount=size.lenet_amount)
    some = tuple(sorted({round(size.lenet_levels * share) for share in (1 / 3, 2 / 3, 1.0)} - {0}))
    sparsest = own_run(size, size.coded)
    one_book = QuantizedRun(parent=sparsest, bits=4, every=1, prune_every=size.every, recipe=size.quantizing)
    many_books = replace(one_book, bits=2, grid=(16, 4))
    books = [replace(book, parent=own_run(size, ratio)) for ratio in (size.coded, *size.also_coded) for book in (one_book, many_books)]
    able = [name for name in ("safe", *FROM_NEW) if size.structure == "unstructured" or not TRAINERS[name].unstructured_only]
    found = {
        "dense": seeded(size.vgg),
        "structures": seeded(*(shaped_run(size, name) for name in SHAPES_COMPARED), seeds=few),
        "init": seeded(*(initial_run(size, score, ratio) for ratio in size.initial_ratios for score in SCORES), seeds=few),
        "official init": seeded(
            *(replace(initial_run(size, score, ratio), start="official") for ratio in size.initial_ratios for score in SCORES), seeds=few
        ),
        "trainers": seeded(ours, gradual, *(trainer_run(size, name) for name in ("granet", *able)), seeds=few),
        "ratios": [
            *seeded(*(own_run(size, ratio) for ratio in dict.fromkeys((*size.ratios, size.coded)))),
            *seeded(*(gradual_run(size, ratio) for ratio in size.ratios), seeds=few),
            *seeded(*(own_run(size, ratio, "kernel") for ratio in size.kernel_ratios), seeds=few),
        ],
        "lenet": seeded(
            size.lenet,
            lenet,
            replace(lenet, iterative=False),
            *(ControlRun(parent=lenet, control=name, which=some) for name in CONTROLS),
            seeds=few,
        ),
        "tickets": [*seeded(plain, early, late), *seeded(warm, warmed, seeds=few)],
        "controls": [
            *seeded(*(control_run(ticket, "reinitialised", judged) for ticket in (early, late))),
            *seeded(
                control_run(warmed, "reinitialised", judged),
                *(control_run(late, name, judged) for name in CONTROLS[1:]),
                replace(late, scope="layerwise"),
                seeds=few,
            ),
        ],
        "shot": seeded(replace(late, retraining="lr-rewind"), replace(late, retraining="finetune"), seeds=few),
        # As long, without pruning; and how much more training brings to the dense networks.
        "unpruned": seeded(*(replace(late, retraining=how, amount=0.0) for how in ("rewind", "lr-rewind", "finetune")), seeds=few),
        **{
            name: seeded(replace(run, recipe=replace(run.recipe, epochs=2 * run.recipe.epochs)), seeds=few)
            for name, run in zip(LONGER, (size.vgg, plain, size.lenet))
        },
        "barrier": seeded(
            *(BarrierRun(parent=ticket, level=level, points=size.points) for level in (fifth(size), 0) for ticket in (early, late, warmed)),
            seeds=few,
        ),
        "coarsening": seeded(
            *(
                spec
                for form in COARSE_FORMS
                for spec in levels(CoarseRun(parent=size.vgg, form=form, rewind=size.vgg.snapshots[0]), size.coarse)
            ),
            seeds=few,
        ),
        "meta": seeded(size.meta),
        "cocktail": seeded(
            *(
                CocktailRun(parent=plain, rewind=size.rewind, stages=size.stages, pivot=pivot, held=size.held, batches=5)
                for pivot in (True, False)
            )
        ),
        # Without dense steps but with as many updates; and with them but without distillation.
        "equal updates": seeded(
            *(
                CocktailRun(parent=plain, rewind=size.rewind, stages=size.stages, held=size.held, batches=5, **arm)
                for arm in (dict(pivot=False, equal="updates"), dict(distil=0.0))
            )
        ),
        "quantize": seeded(
            *books,
            replace(one_book, grid=(16, 4)),
            replace(many_books, grid=(1, 1)),
            replace(one_book, parent=size.vgg, density=1 / size.coded),
            *(TorchaoRun(parent=size.vgg, bits=bits) for bits in (8, 4)),
            seeds=few,
        ),
        "files": seeded(
            *(packed(size, spec) for spec in (sparsest, *books)),
            packed(size, one_book, norm_bits=4),
            packed(size, size.vgg),
            *(packed(size, own_run(size, r)) for r in size.ratios if r != size.coded),
            *(packed(size, own_run(size, r, "kernel")) for r in size.kernel_ratios),
            seeds=few,
        ),
        "speed": [SpeedRun(model=model, density=share, batch=size.timed) for model in size.fast for share in size.densities],
    }
    # With structure "kernel" some ratios come twice.
    return {name: list(dict.fromkeys(specs)) for name, specs in found.items()}


def fifth(size: Scale) -> int:
    """The residual network's first level with at most a fifth of the weights, or a little more; else the last."""
    return next((level for level in range(1, size.levels + 1) if (1 - size.amount) ** level <= FIFTH + SLACK), size.levels)


def plan(size: Scale, ratio: float, **changes) -> Plan:
    return Plan(**{"density": 1 / ratio, "every": size.every, "structure": size.structure} | changes)


def initial_run(size: Scale, score: str, ratio: float) -> InitialRun:
    return InitialRun(dense=size.initial, score=score, density=1 / ratio)


def control_run(ticket: TicketRun, control: str, which: tuple[int, ...]) -> ControlRun:
    return ControlRun(parent=ticket, control=control, which=which)


def gradual_run(size: Scale, ratio: float) -> SparseRun:
    return SparseRun(parent=size.vgg, method="gradual", plan=plan(size, ratio), recipe=size.sparse)


def trainer_run(size: Scale, name: str) -> SparseRun:
    """The method at the ratio at which all are compared, after as many epochs in all as the others."""
    recipe = size.safe if name == "safe" and size.safe else size.sparse
    if name in FROM_NEW:
        recipe = replace(recipe, epochs=recipe.epochs + size.vgg.recipe.epochs)
    return SparseRun(
        parent=size.vgg, method=name, plan=plan(size, size.compared), recipe=recipe, start="trained" if name in FROM_TRAINED else "new"
    )


def own_run(size: Scale, ratio: float, shape: str | None = None) -> SparseRun:
    """Our recipe, of the same length as the others."""
    first = replace(size.sparse, epochs=max(1, size.sparse.epochs - size.rest.epochs))
    return own(size.vgg, 1 / ratio, first, size.rest, structure=shape or size.structure, every=size.every)


def packed(size: Scale, parent: Spec, **changes) -> PackedRun:
    return PackedRun(parent=parent, attacked=size.attacked, **changes)


def shaped_run(size: Scale, name: str) -> SparseRun:
    """Gradual pruning to one density in a structure, layers compared by LAMP; 2:4 keeps a half, whatever the others keep.

    By magnitude, whole filters of the widest layers would go first, until such a layer is empty.
    """
    return SparseRun(
        parent=size.vgg,
        method="gradual",
        recipe=size.sparse,
        plan=plan(size, 2.0 if name == "2:4" else size.shaped, structure=name, allocation="lamp"),
    )


def ticket_parents(size: Scale) -> tuple[DenseRun, DenseRun]:
    """The dense network without a warm-up, whose early weights are kept, and with one."""
    return (
        replace(size.resnet, snapshots=(0, size.rewind)),
        replace(size.resnet, snapshots=(0,), recipe=replace(size.resnet.recipe, warmup=size.warmup)),
    )


def sized(parameters: Parameters) -> Scale:
    """The scale's sizes with the reader's knobs applied."""
    size = SIZES[parameters.scale]
    if parameters.dataset is not None:
        net = size.meta.parent
        dense = {name: on(getattr(size, name), parameters.dataset) for name in ("vgg", "initial", "lenet", "resnet")}
        size = replace(size, **dense, meta=replace(size.meta, parent=on(net, parameters.dataset)))
    if parameters.epochs is not None:
        size = replace(
            size,
            sparse=replace(size.sparse, epochs=parameters.epochs),
            safe=size.safe and replace(size.safe, epochs=parameters.epochs),
            rest=replace(size.rest, epochs=max(1, parameters.epochs // 2)),
        )
    if parameters.ratios is not None:
        size = replace(size, ratios=parameters.numbers, compared=parameters.numbers[len(parameters.numbers) // 2])
    return replace(size, **given(seeds=parameters.seeds, structure=parameters.structure, rewind=parameters.rewind))


def on(run: DenseRun | PruningNetRun, dataset: str) -> DenseRun | PruningNetRun:
    """The same training on other images."""
    if dataset == run.dataset:
        return run
    side, channels = SHAPES[dataset]
    shape = {"inputs": channels * side * side} if isinstance(run.model, MLPConfig) else {"channels": channels}
    if isinstance(run.model, VGGConfig):
        shape["side"] = side
    model = replace(run.model, classes=100 if dataset == "cifar100" else 10, **shape)
    return replace(run, dataset=dataset, model=model, **other_shape(dataset, run.dataset))
