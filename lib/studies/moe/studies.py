"""Mixture of experts and routing: what is run, and at which size."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from lib.data.images import check_name
from lib.models.vit import preset, seed_geometry
from lib.moe.layer import MoEConfig
from lib.runs.spec import Spec
from lib.studies.anchors.recipes import DISTORTED, SHIFTED, vit_recipe
from lib.studies.anchors.runs import AnchorRun, pieces
from lib.studies.base.images import LIGHT, other_shape
from lib.studies.base.parameters import ChapterParameters, given
from lib.studies.base.seeds import seeded
from lib.studies.moe.capacity import InferenceRun
from lib.studies.moe.cost import LayerCost, StepCost
from lib.studies.moe.vit import ViTRun
from lib.training.loop import Recipe


@dataclass(frozen=True, kw_only=True)
class Parameters(ChapterParameters):
    """The chapter's knobs.  None follows the scale."""

    dataset: str | None = None  # digits | mnist | cifar10 | cifar100
    experts: int | None = None  # compare dense with this number of experts only
    epochs: int | None = None
    batch_size: int | None = None
    d_model: int | None = None  # width of the transformer
    dense_only: bool = False  # train the dense baseline alone
    gpus: int = 1  # data-parallel processes, through torchrun
    output: str | None = None  # folder for results and weights instead of runs/

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in {"experts": 2, "epochs": 1, "batch_size": 1, "d_model": 1, "gpus": 1}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, not {value}")
        if self.dataset is not None:
            check_name(self.dataset)
        size = SIZES[self.scale]
        heads = math.lcm(*(preset(run.preset).heads for run in (size.base, size.main) if run))
        if self.d_model is not None and self.d_model % heads:
            raise ValueError(f"d_model {self.d_model} cannot be shared by {heads} heads: choose a multiple of {heads}")


@dataclass(frozen=True)
class Size:
    """What a scale chooses.  ``experts`` is the main sweep; its first entry serves the other studies.

    ``main``: the network of the main comparison, where it is not that of the details (``base``), of which there are many more.
    ``seed_pieces``: in how many pieces the student project's geometry is trained, dense (None) and with so many experts.
    """

    base: ViTRun
    experts: tuple[int, ...]
    seeds: int
    side_seeds: int  # for the studies of a detail: capacity, precision, design
    layer: LayerCost
    layer_experts: tuple[int, ...]
    step: StepCost
    main: ViTRun | None = None
    seed_pieces: dict[int | None, int] = field(default_factory=dict)


SIZES = {
    "smoke": Size(
        ViTRun(dataset="digits", train_examples=128, preset="tiny", recipe=Recipe(epochs=1, batch_size=64, lr=2e-3)),
        experts=(4,),
        seeds=1,
        side_seeds=1,
        layer=LayerCost(tokens=128, d_model=32, hidden=64, rounds=3),
        layer_experts=(4, 8),
        step=StepCost(geometry="tiny", batch_size=16, rounds=3),
    ),
    "laptop": Size(
        ViTRun(dataset="digits", preset="tiny", recipe=Recipe(epochs=4, batch_size=64, lr=1e-2)),
        experts=(4, 16),
        seeds=3,
        side_seeds=1,
        layer=LayerCost(tokens=1024, d_model=128, hidden=512, rounds=5),
        layer_experts=(4, 16, 64),
        step=StepCost(geometry="tiny", batch_size=64, rounds=5),
    ),
    "cpu": Size(
        ViTRun(
            dataset="cifar10",
            train_examples=20_000,
            preset="small",
            d_model=48,
            patch=8,
            recipe=Recipe(epochs=4, batch_size=64, lr=2e-3),
            augmentation=LIGHT,
        ),
        experts=(16, 32, 64),
        seeds=3,
        side_seeds=3,
        layer=LayerCost(rounds=9),
        layer_experts=(4, 8, 16, 32, 64),
        step=StepCost(geometry="small", batch_size=64),
        main=ViTRun(
            dataset="cifar10",
            preset="small-stemmed",
            patch=8,
            recipe=vit_recipe(16, batch_size=250),
            augmentation=SHIFTED,
        ),
    ),
    "gpu": Size(
        ViTRun(
            dataset="cifar10",
            preset="stemmed",
            augmentation=LIGHT,
            recipe=vit_recipe(20, batch_size=1024),
        ),
        experts=(16, 32, 64),
        seeds=3,
        side_seeds=3,
        layer=LayerCost(tokens=16_640, precision="bf16", rounds=50),
        layer_experts=(4, 8, 16, 32, 64),
        step=StepCost(geometry="switch-vit", batch_size=256, precision="bf16", rounds=20),
        seed_pieces={None: 2, 32: 3, 64: 4},
    ),
}

#: The mixture of most studies: Switch routing in every second layer, nothing dropped.
SWITCH = MoEConfig(placement="every-second")


def studies(parameters: Parameters) -> dict[str, list[Spec]]:
    """The Specs of each study by name; see the chapter for what each shows."""
    size = sized(parameters)
    every, few = range(size.seeds), range(size.side_seeds)
    dense, main = size.base, size.main
    sweep = (parameters.experts,) if parameters.experts else size.experts
    switch = replace(SWITCH, experts=sweep[0])

    def runs(*mixtures: MoEConfig, seeds=every, **changes) -> list[Spec]:
        return [replace(dense, moe=mixture, seed=seed, **changes) for mixture in mixtures for seed in seeds]

    def compared(mixture: MoEConfig | None = None, **changes) -> list[Spec]:
        return seeded(every, replace(main, moe=mixture, **changes))

    def other(router: str, **changes) -> MoEConfig:
        return MoEConfig(router=router, experts=sweep[0], placement=SWITCH.placement, **changes)

    baseline = seeded(every, dense)
    longer = seeded(every, replace(dense, recipe=longer_recipe(dense)))
    switched = runs(switch)
    ewa = runs(other("partition"), ewa_beta=EWA_BETA)
    thor, adamix, whole = runs(other("thor")), runs(other("adamix")), runs(other("whole-network"))
    routed = runs(
        other("vmoe"),
        other("bias"),
        other("expert-choice", capacity_factor=1.0),
        other("soft"),
        other("hash", hash_by="position" if switch.experts <= FEWEST_POSITIONS else "patch"),
    )

    found = {
        # One network, as one command of the Switch-ViT project trains one.
        "model": compared()[:1] if parameters.dense_only else compared(replace(switch, experts=sweep[-1]))[:1],
        "accuracy": compared()
        + compared(recipe=longer_recipe(main))
        + compared(widening=WIDENING)
        + [run for experts in sweep for run in compared(replace(switch, experts=experts))],
        "routers": baseline + switched + routed,
        "random": baseline
        + switched
        + ewa
        + runs(other("partition"))
        + thor
        + adamix
        + whole
        + runs(other("thor"), other("adamix"), consistency=False),
        "balance": runs(replace(switch, balance=0.0)) + switched + runs(replace(switch, z_loss=1e-3)) + runs(other("vmoe"), other("bias")),
        # Controls that differ in one thing only: tables of patches, a gate near 1, one kind of gate for both ways to balance.
        "gates": runs(other("hash", hash_by="patch"), replace(switch, single_gate="share"), other("bias", scores="softmax")),
        "inference": [InferenceRun(parent=run, seed=run.seed) for run in runs(other("vmoe", k=2), seeds=few)],
        "capacity": runs(
            *(replace(switch, policy="arrival", capacity_factor=cf) for cf in (0.5, 1.0, 1.25, 2.0)),
            *(replace(switch, policy=policy, capacity_factor=0.5) for policy in ("random", "priority", "second-choice")),
            switch,
            seeds=few,
        ),
        "precision": runs(switch, replace(switch, router_precision="bf16"), seeds=few, recipe=replace(dense.recipe, precision="bf16")),
        "initialisation": runs(replace(switch, router_init=1.0), replace(switch, jitter=1e-2), switch, seeds=few),
        "design": runs(
            switch,
            replace(switch, k=2),
            replace(switch, k=2, split=2),
            replace(switch, k=2, split=2, shared=1),
            *(replace(switch, placement=p) for p in ("all", "last-two") if elsewhere(p, dense)),
            seeds=few,
        ),
        # What more training brings to the network of the details, which decides how much they can say.
        "baseline": baseline + longer,
        "distillation": baseline + longer + switched + [replace(dense, teacher=teacher, seed=teacher.seed) for teacher in switched],
        "collapse": runs(
            replace(switch, experts=sweep[-1]),
            replace(switch, experts=sweep[-1], balance=0.0),
            seeds=few,
            recipe=replace(dense.recipe, lr=COLLAPSING_LR * dense.recipe.lr),
        ),
        "pace": [
            replace(
                size.step,
                geometry=main.preset,
                d_model=main.d_model,
                patch=main.patch,
                batch_size=main.recipe.batch_size,
                precision=main.recipe.precision,
                moe=replace(switch, experts=experts),
                seed=seed,
            )
            for experts in sweep
            for seed in every
        ],
        "layer": [
            replace(size.layer, experts=experts, backend=backend)
            for experts in size.layer_experts
            for backend in LAYER_BACKENDS
            if backend != "einsum" or experts <= MOST_FOR_EINSUM
        ],
        "steps": [
            replace(size.step, moe=replace(switch, experts=experts, placement="all", backend=backend), seed=seed)
            for experts in sweep
            for backend in ("auto", "loop")
            for seed in every
        ],
    }
    if size.seed_pieces:
        found["seed geometry"] = [piece for run in seed_geometries(size) for piece in pieces(run)]
    if parameters.dense_only:
        plain = baseline + compared()
        return {name: [spec for spec in specs if spec in plain] for name, specs in found.items()}
    return found


def longer_recipe(run: ViTRun) -> Recipe:
    """The run's recipe with twice the epochs."""
    return replace(run.recipe, epochs=2 * run.recipe.epochs)


def seed_geometries(size: Size) -> list[AnchorRun]:
    """The Switch-ViT project's networks, trained for as long as theirs were; beyond what one sitting allows, in pieces."""
    recipe = Recipe(epochs=SEED_EPOCHS, batch_size=512, lr=1e-3, precision="bf16")
    return [
        AnchorRun(model=seed_geometry(experts), recipe=recipe, augmentation=DISTORTED, pieces=count)
        for experts, count in size.seed_pieces.items()
    ]


#: Epochs of the Switch-ViT project.
SEED_EPOCHS = 350

#: Patches of an image at the scales with the fewest; more experts than that cannot be hashed by position.
FEWEST_POSITIONS = 16

#: Share that each expert takes from the others after every step (EWA's β).
EWA_BETA = 0.01

#: The dense network whose feed-forward layers are this many times as wide shows whether their width matters at all.
WIDENING = 4

#: At this many times the usual learning rate the load depends on the balance loss.
COLLAPSING_LR = 3.0

LAYER_BACKENDS = ("loop", "einsum", "bmm", "grouped")

#: Every expert on every token: beyond this many it only takes time to show what is plain by then.
MOST_FOR_EINSUM = 16


def elsewhere(placement: str, run: ViTRun) -> bool:
    """Whether ``placement`` puts experts into other layers than the usual one; in a shallow model two may agree."""
    depth = preset(run.preset).depth
    return replace(SWITCH, placement=placement).places(depth) != SWITCH.places(depth)


def sized(parameters: Parameters) -> Size:
    """The scale's sizes with the reader's knobs applied."""
    size = SIZES[parameters.scale]

    def changed(run: ViTRun) -> ViTRun:
        recipe = replace(run.recipe, **given(epochs=parameters.epochs, batch_size=parameters.batch_size))
        other = replace(run, recipe=recipe, **given(dataset=parameters.dataset, d_model=parameters.d_model))
        shape = other_shape(other.dataset, run.dataset)
        return replace(other, patch=None, **shape) if shape else other

    seeds = given(seeds=parameters.seeds, side_seeds=parameters.seeds)
    layer, step = size.layer, replace(size.step, **given(batch_size=parameters.batch_size))
    if parameters.d_model:  # a layer as wide as the network's, with the same share of hidden units
        layer = replace(layer, d_model=parameters.d_model, hidden=parameters.d_model * layer.hidden // layer.d_model)
    return replace(size, base=changed(size.base), main=changed(size.main or size.base), layer=layer, step=step, **seeds)
