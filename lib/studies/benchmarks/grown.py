"""The benchmarks chapter's grown networks: a small vision transformer that becomes the dense one in the middle of its training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lib.data.images import normalise
from lib.elastic.compute import Paced
from lib.growth.depth import Deepen
from lib.growth.growth import Growth, grow, grow_moments
from lib.growth.moments import install, read
from lib.growth.net2net import Net2Wider
from lib.growth.width import Tiling
from lib.models.vit import ViT, ViTConfig
from lib.studies.benchmarks.task import TRAINING, Task, build
from lib.studies.benchmarks.work import Method, Trained, Work
from lib.system.checks import require
from lib.training import optim
from lib.training.losses import Loss, classification_loss

#: Validation images by which a growth is judged.
PROBE = 256


@dataclass(frozen=True)
class Grown(Method):
    """A small network is trained with ``before`` of the budget, grown (the growth chapter), and trained on with the rest.

    ``growth`` is applied in order and must lead to the family's dense network; the small one follows from it, see
    :func:`shrunk`.  Both runs have a warm-up and a schedule of their own, at the family's learning rate.  AdamW's
    moments grow with the weights, as is the growth chapter's default; those of new blocks start from zero.
    """

    growth: tuple[Growth, ...]
    before: float = 0.3

    def __post_init__(self) -> None:
        require(self.growth, "growth is empty: name at least one operator of lib.growth")
        require(0 < self.before < 1, f"before is {self.before}: the small network's share of the budget must be in (0, 1)")

    def check(self, task: Task) -> None:
        require(
            task.recipe("vit").optimizer == "adamw",
            f"optimizer is {task.recipe('vit').optimizer!r}: only the state of 'adamw' can be grown",
        )
        self.small(task)

    def small(self, task: Task) -> ViTConfig:
        """The network before growth.  Raises ValueError where growth does not lead from there to the dense network."""
        config = found = shrunk(task.vit, self.growth)
        for operator in self.growth:
            found = operator.config(found)
        require(
            found == task.vit,
            f"growth leads from {config} to {found}, not to {task.vit}: choose operators that end "
            "there, and a network whose width and heads they divide",
        )
        return config

    def network(self, task: Task, family: str, seed: int) -> ViT:
        return build(task.vit, seed)

    def train(self, work: Work) -> Trained:
        def loss(_: Paced) -> Loss:
            return classification_loss(work.smoothing)

        small = build(self.small(work.task), work.seed).to(work.device)
        optimizers = adamw(small, work)
        first = work.fit(small, TRAINING * work.task.forward_flops(small.config), loss, share=self.before, optimizers=optimizers)
        model = grow(small, *self.growth, seed=work.seed)
        moments = grow_moments(small.config, read(small, optimizers), *self.growth, seed=work.seed)
        optimizers = adamw(model, work)
        install(model, optimizers, moments)
        moved = difference(small, model, normalise(work.images.validation.images[:PROBE], work.images))
        second = work.fit(
            model, TRAINING * work.task.forward_flops(work.task.vit), loss, share=1 - self.before, earlier=(first,), optimizers=optimizers
        )
        return Trained(model, (first, second), {"growth_difference": moved})


def shrunk(config: ViTConfig, growth: tuple[Growth, ...]) -> ViTConfig:
    """The network from which ``growth`` starts when it ends at ``config``.

    What becomes ``times`` as wide was that part of it; of blocks and of hidden units that are added, half were there.
    Raises ValueError for other operators.
    """
    for operator in reversed(growth):
        if isinstance(operator, Tiling):
            config = replace(config, **{name: max(1, getattr(config, name) // operator.times) for name in ("width", "heads", "hidden")})
        elif isinstance(operator, Deepen):
            config = replace(config, depth=max(1, config.depth // 2))
        else:
            require(isinstance(operator, Net2Wider), f"{operator} does not apply to vision transformers: use Widen, Net2Wider or Deepen")
            config = replace(config, hidden=max(1, config.hidden // 2))
    return config


def adamw(model: nn.Module, work: Work) -> list[Optimizer]:
    recipe = work.recipe
    return optim.build(model, "adamw", lr=recipe.lr, weight_decay=recipe.weight_decay, betas=recipe.betas)


@torch.no_grad()
def difference(before: nn.Module, after: nn.Module, inputs: Tensor) -> float:
    """Largest difference of two logits of networks in evaluation mode, over the standard deviation of the first's."""
    expected = before(inputs)
    return float((after(inputs) - expected).abs().max() / expected.std())
