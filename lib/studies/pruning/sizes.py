"""The pruning chapter's sizes: networks, recipes and ratios of each scale."""

from __future__ import annotations

from dataclasses import dataclass

from lib.models.cnn import CNNConfig, preset
from lib.models.mlp import MLPConfig
from lib.models.resnet import ResNetConfig
from lib.models.vgg import VGGConfig, vgg16
from lib.pruning.meta_search import Evolution
from lib.studies.base.images import LIGHT
from lib.studies.pruning.dense import DenseRun
from lib.studies.pruning.meta import MetaRun, PruningNetRun
from lib.training.loop import Recipe


@dataclass(frozen=True)
class Scale:
    """What a scale chooses.

    ``vgg``       the chain that is pruned to high ratios, and how it is trained before
    ``sparse``    how it is trained while it is pruned; ``rest``: how our recipe trains on, included in the length of
                  ``sparse``
    ``safe``      recipe of SAFE where ``sparse`` uses Muon: its pull is sized for steps of SGD, and too weak beside Muon's
    ``every``     steps between changes of the masks
    ``compared``  ratio at which trainers are compared; ``shaped``: at which structures are
    ``coarse``    levels of coarse tickets, each of which takes a fifth
    ``initial``   what is pruned before training, and ``initial_ratios`` how far
    ``lenet``, ``resnet``  in which tickets are looked for; ``levels`` times ``amount`` of what is left goes
    ``warmup``    share of the steps, where tickets need one
    ``rewind``    the step to which tickets go back, 3 to 5 % of the training
    ``points``    on the line between two copies
    ``quantizing``  how codebooks are trained
    ``attacked``  test images that attacks are tried on
    ``meta``      the search for widths
    ``stages``    of training all patterns at once, ``held`` images by which they are merged
    ``coded``     ratio of the network that gets codebooks; ``also_coded``: of others that do
    ``fast``      networks that are timed at some ``densities``, ``timed`` images at once
    ``few``       seeds of side studies
    """

    vgg: DenseRun
    sparse: Recipe
    rest: Recipe
    every: int
    ratios: tuple[float, ...]
    kernel_ratios: tuple[float, ...]
    compared: float
    shaped: float
    coarse: int
    initial: DenseRun
    initial_ratios: tuple[float, ...]
    lenet: DenseRun
    lenet_levels: int
    lenet_amount: float
    resnet: DenseRun
    levels: int
    amount: float
    warmup: float
    rewind: int
    points: int
    quantizing: Recipe
    attacked: int
    meta: MetaRun
    stages: int
    held: int
    coded: float
    fast: tuple[VGGConfig | MLPConfig, ...]
    densities: tuple[float, ...]
    timed: int
    seeds: int
    few: int = 1
    structure: str = "unstructured"
    also_coded: tuple[float, ...] = ()
    safe: Recipe | None = None


def sgd(epochs: int, batch_size: int, lr: float, **changes) -> Recipe:
    """As in the papers: Nesterov's SGD, weight decay of 5e-4, no clipping."""
    return Recipe(
        **{"epochs": epochs, "batch_size": batch_size, "optimizer": "sgd", "lr": lr, "weight_decay": 5e-4, "warmup": 0.0, "clip": None}
        | changes
    )


def muon(epochs: int, batch_size: int, lr: float, **changes) -> Recipe:
    """Orthogonalised momentum for all but the first and the last layer, with a warm-up."""
    return Recipe(
        **{"epochs": epochs, "batch_size": batch_size, "optimizer": "muon", "lr": lr, "weight_decay": 0.05, "warmup": 0.1, "final_lr": 0.02}
        | changes
    )


def adam(epochs: int, batch_size: int, lr: float, **changes) -> Recipe:
    """Without a clip and a warm-up.  ``final_lr=1.0``: at a constant rate, as LeNet in the tickets' paper."""
    return Recipe(**{"epochs": epochs, "batch_size": batch_size, "lr": lr, "weight_decay": 1e-4, "warmup": 0.0, "clip": None} | changes)


def meta_recipe(epochs: int, batch_size: int, lr: float, **changes) -> Recipe:
    """AdamW: what generates weights has gradients of very different sizes."""
    return Recipe(epochs=epochs, batch_size=batch_size, lr=lr, weight_decay=1e-4, **changes)


DIGITS_VGG = VGGConfig((16, 16, 32, 32, 64, 64), (2, 2, 2), channels=1, side=8)
TINY_VGG = VGGConfig((4, 8, 8), (1, 1, 1), channels=1, side=8)
WIDE_MLP = MLPConfig(4608, (512, 512))
FAST = {"channels_last": True}
GPU = {"channels_last": True, "precision": "bf16"}

SIZES = {
    "smoke": Scale(
        vgg=DenseRun(dataset="digits", train_examples=128, model=TINY_VGG, recipe=sgd(2, 64, 0.1), snapshots=(1,)),
        sparse=sgd(2, 64, 0.1),
        rest=sgd(1, 64, 0.05),
        every=1,
        ratios=(5.0, 10.0),
        kernel_ratios=(4.0,),
        compared=5.0,
        shaped=3.0,
        coarse=1,
        initial=DenseRun(dataset="digits", train_examples=128, model=TINY_VGG, recipe=sgd(1, 64, 0.1)),
        initial_ratios=(316.0,),
        lenet=DenseRun(
            dataset="digits",
            train_examples=128,
            model=MLPConfig(64, (30, 10)),
            recipe=adam(2, 64, 3e-3, final_lr=1.0),
            portion=2,
            snapshots=(0,),
        ),
        lenet_levels=2,
        lenet_amount=0.5,
        resnet=DenseRun(dataset="digits", train_examples=128, model=ResNetConfig((4, 8), (1, 1), channels=1), recipe=sgd(2, 64, 0.2)),
        levels=2,
        amount=0.5,
        warmup=0.3,
        rewind=1,
        points=3,
        quantizing=adam(1, 64, 3e-3),
        attacked=20,
        meta=MetaRun(
            parent=PruningNetRun(
                dataset="digits", train_examples=128, model=CNNConfig(((8,), (16,)), channels=1), recipe=meta_recipe(1, 64, 5e-3)
            ),
            searched=100,
            evolution=Evolution(4, 1, 2, 2, 2),
            controls=2,
            recipe=meta_recipe(1, 64, 5e-3),
        ),
        stages=2,
        held=50,
        coded=10.0,
        fast=(vgg16(1 / 8, channels=1, side=8),),
        densities=(0.2,),
        timed=1,
        seeds=1,
    ),
    "laptop": Scale(
        vgg=DenseRun(dataset="digits", model=DIGITS_VGG, recipe=sgd(5, 64, 0.1), snapshots=(5,)),
        sparse=sgd(5, 64, 0.1),
        rest=sgd(2, 64, 0.1),
        every=4,
        ratios=(10.0, 50.0, 150.0),
        kernel_ratios=(50.0,),
        compared=50.0,
        shaped=30.0,
        coarse=1,
        initial=DenseRun(dataset="digits", model=DIGITS_VGG, recipe=sgd(3, 64, 0.1)),
        initial_ratios=(10.0, 316.0),
        lenet=DenseRun(dataset="digits", model=MLPConfig(64), recipe=adam(30, 64, 3e-3, final_lr=1.0), portion=9, snapshots=(0,)),
        lenet_levels=6,
        lenet_amount=0.36,
        resnet=DenseRun(dataset="digits", model=ResNetConfig((8, 16), (1, 1), channels=1), recipe=sgd(5, 64, 0.2)),
        levels=3,
        amount=0.42,
        warmup=0.3,
        rewind=4,
        points=5,
        quantizing=adam(3, 64, 2e-3),
        attacked=100,
        meta=MetaRun(
            parent=PruningNetRun(dataset="digits", model=preset("small", channels=1), recipe=meta_recipe(6, 64, 5e-3)),
            searched=200,
            evolution=Evolution(10, 2, 4, 5, 5),
            controls=4,
            recipe=meta_recipe(5, 64, 1e-2),
        ),
        stages=2,
        held=200,
        coded=150.0,
        fast=(vgg16(1 / 2), WIDE_MLP),
        densities=(0.2, 0.05, 0.01),
        timed=1,
        seeds=1,
    ),
    "cpu": Scale(
        # All images as they are, six times, by Muon: 78 % in two minutes of one core, and twice the epochs bring less than a point.
        # The same by SGD has 75 %.  Mirrored and shifted images would take it further, in more epochs than we can afford.
        vgg=DenseRun(dataset="cifar10", model=vgg16(1 / 8), recipe=muon(6, 250, 0.02, **GPU), snapshots=(40,)),
        sparse=muon(4, 250, 0.02, **GPU),
        rest=muon(2, 250, 0.02, **GPU),
        safe=sgd(4, 125, 0.1, **GPU),
        every=20,
        ratios=(10.0, 50.0, 200.0),
        kernel_ratios=(50.0,),
        compared=50.0,
        shaped=20.0,
        coarse=1,
        # 730 weights are left at 316 times: they need this many steps to beat a linear classifier of the pixels.
        initial=DenseRun(dataset="mnist", train_examples=15000, model=vgg16(1 / 8, channels=1, side=28), recipe=sgd(4, 50, 0.1, **GPU)),
        initial_ratios=(31.6, 316.0),
        lenet=DenseRun(
            dataset="mnist", train_examples=4000, model=MLPConfig(), recipe=adam(40, 64, 1.2e-3, final_lr=1.0), portion=20, snapshots=(0,)
        ),
        lenet_levels=6,
        lenet_amount=0.36,
        resnet=DenseRun(
            dataset="cifar10",
            train_examples=3000,
            model=ResNetConfig((8, 16, 32), (1, 1, 1), stride=2),
            augmentation=LIGHT,
            recipe=sgd(5, 64, 0.2, **FAST),
            portion=80,
        ),
        levels=3,
        amount=0.42,
        warmup=0.3,
        rewind=16,
        points=5,
        quantizing=adam(2, 125, 1e-3, **GPU),
        attacked=100,
        meta=MetaRun(
            parent=PruningNetRun(
                dataset="cifar10", train_examples=4000, model=preset("small"), augmentation=LIGHT, recipe=meta_recipe(6, 64, 5e-3, **FAST)
            ),
            searched=1000,
            evolution=Evolution(16, 3, 6, 8, 8),
            controls=3,
            recipe=meta_recipe(5, 64, 1e-2, **FAST),
        ),
        stages=3,
        held=500,
        coded=200.0,
        fast=(vgg16(), WIDE_MLP),
        densities=(0.5, 0.1, 0.05, 0.01),
        timed=1,
        seeds=3,
        few=3,
    ),
    "gpu": Scale(
        vgg=DenseRun(dataset="cifar10", model=vgg16(), recipe=sgd(50, 256, 0.1, **GPU), augmentation=LIGHT, snapshots=(175,)),
        sparse=sgd(16, 256, 0.1, **GPU),
        rest=sgd(8, 256, 0.1, ema=0.998, **GPU),
        every=50,
        ratios=(50.0, 500.0, 1000.0),
        kernel_ratios=(100.0, 500.0),
        compared=500.0,
        shaped=100.0,
        coarse=1,
        initial=DenseRun(dataset="cifar10", model=vgg16(), recipe=sgd(10, 256, 0.1, **GPU), augmentation=LIGHT),
        initial_ratios=(31.6, 316.0),
        lenet=DenseRun(dataset="mnist", model=MLPConfig(), recipe=adam(80, 256, 1.2e-3, final_lr=1.0), portion=50, snapshots=(0,)),
        lenet_levels=6,
        lenet_amount=0.36,
        resnet=DenseRun(
            dataset="cifar10", model=ResNetConfig((16, 32, 64), (3, 3, 3)), augmentation=LIGHT, recipe=sgd(28, 512, 0.2, **GPU)
        ),
        levels=3,
        amount=0.42,
        warmup=0.3,
        rewind=140,
        points=11,
        quantizing=adam(6, 256, 1e-3, **GPU),
        attacked=2000,
        meta=MetaRun(
            parent=PruningNetRun(dataset="cifar10", model=preset("large"), augmentation=LIGHT, recipe=meta_recipe(30, 512, 5e-3, **GPU)),
            searched=2000,
            evolution=Evolution(50, 8, 10, 25, 25),
            controls=4,
            recipe=meta_recipe(20, 512, 1e-2, **GPU),
        ),
        stages=3,
        held=1000,
        coded=1500.0,
        also_coded=(1000.0,),
        fast=(vgg16(), WIDE_MLP),
        densities=(0.5, 0.2, 0.1, 0.05, 0.02, 0.01),
        timed=64,
        seeds=3,
        few=3,
    ),
}
