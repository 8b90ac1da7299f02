"""Making a trained ViT dynamic: the elastic chapter's last Spec.

The router is judged against what the same network does without it at the same FLOPs: sizes dealt out at
random in the same shares, the same sizes given to other images' tokens at the same positions, and one width
for all tokens of a layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import load_model
from torch import Tensor

from lib.data.images import ImageBatches, ImageSet, Split, normalise
from lib.elastic.dynamic import DynamicViT, check_sizes, dynamic_loss, ffn_inputs, flops_without_ffns, routed_flops
from lib.elastic.nested import IMPORTANCE
from lib.measure import cost as measure
from lib.models.vit import ViT
from lib.moe.routing import Routing
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.images import available_images
from lib.studies.base.pictures import png
from lib.system.checks import one_of
from lib.system.precision import autocast
from lib.training.evaluate import evaluate_classifier
from lib.training.loop import Recipe, fit

#: Training images that the importance of hidden units is measured on.
CALIBRATION_IMAGES = 1000

#: Validation images that are shown patch by patch, from the one with the smallest mean size to the largest.
EXAMPLES = 6

#: Images at a time in evaluation.
BATCH = 250

#: Groups of equal size that validation images are put in by their mean size.
GROUPS = 5


@dataclass(frozen=True)
class Seen:
    """What a model made of a split: loss and correctness per image, sizes per layer and token, FLOPs per image."""

    loss_B: Tensor
    prediction_B: Tensor
    correct_B: Tensor
    size_LBN: Tensor
    flops: float

    @property
    def accuracy(self) -> float:
        return self.correct_B.float().mean().item()

    @property
    def loss(self) -> float:
        return self.loss_B.mean().item()


@dataclass(frozen=True, kw_only=True)
class DynamicRun(Spec):
    """Fine-tune a trained dense ViT with nested FFNs and routers, and measure what the routers are worth.

    ``parent``      Spec of the dense ViT: its ``dataset``, ``train_examples``, ``augmentation``, ``geometry(images)``
                    and weights are used
    ``sizes``       hidden units of the experts, as fractions of all
    ``theta``       agreement with the whole FFN that makes a size suffice
    ``importance``  how hidden units are ordered, see :func:`lib.elastic.nested.importance`
    ``thresholds``  of the sweep of compute against accuracy
    """

    experiment: ClassVar[str] = "elastic-dynamic"

    parent: Spec
    sizes: tuple[float, ...] = (1 / 4, 1 / 2, 1)
    theta: float = 0.95
    importance: str = "activation"
    thresholds: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=1))

    def __post_init__(self) -> None:
        one_of("importance", self.importance, IMPORTANCE)
        check_sizes(self.sizes, self.theta)

    def run(self, session: Session) -> Outcome:
        parent = self.parent
        images = available_images(parent.dataset, parent.train_examples, session.device)
        dense = ViT(parent.geometry(images)).to(session.device)
        load_model(dense, str(session.weights(parent)))
        torch.manual_seed(self.seed)
        model = DynamicViT.from_dense(
            dense, normalise(images.train.images[:CALIBRATION_IMAGES], images), self.sizes, self.theta, self.importance
        )
        batches = ImageBatches(images.train, images, self.recipe.batch_size, parent.augmentation, self.seed)
        history = fit(
            model,
            batches,
            dynamic_loss(self.recipe.label_smoothing),
            self.recipe,
            seed=self.seed,
            checkpoint=session.checkpoint,
            report=session.report,
        )

        held = images.validation
        routed = self.look(model, held, images)
        dense_logits = self.each_batch(dense.eval(), held, images)
        dense_loss_B = F.cross_entropy(dense_logits, held.labels, reduction="none")
        dense_flops = measure.flops(dense, normalise(held.images[:1], images))
        metrics = {
            "train_seconds": history.seconds,
            "diverged": history.diverged,
            "val_accuracy": routed.accuracy,
            "val_loss": routed.loss,
            "flops_per_image": routed.flops,
            "relative_flops": routed.flops / dense_flops,
            "parameters": measure.parameters(model),
            "dense_parameters": measure.parameters(dense),
            "dense_flops_per_image": dense_flops,
            "dense_val_loss": dense_loss_B.mean().item(),
            "dense_val_accuracy": (dense_logits.argmax(1) == held.labels).float().mean().item(),
        }
        metrics |= {f"share_{size:g}": (routed.size_LBN == index).float().mean().item() for index, size in enumerate(self.sizes)}
        metrics |= self.controls(model, routed, held, images, dense_flops)
        metrics |= self.difficulty(model, routed, dense_loss_B, held)
        metrics |= self.labels(model, routed, held, images, dense_flops)
        arrays = self.sweep(model, held, images, dense_flops) | self.tables(model, routed, held)
        test = self.look(model, images.test, images)
        metrics |= {"test_accuracy": test.accuracy, "test_loss": test.loss, "test_relative_flops": test.flops / dense_flops}
        session.save_weights(model)
        return Outcome(significant(metrics), significant(history.curves), significant(arrays), images.provenance())

    @torch.no_grad()
    def each_batch(self, predict: Callable[[Tensor], Tensor], split: Split, images: ImageSet) -> Tensor:
        """``predict(inputs)`` of all images of ``split`` in order, as fp32, under the recipe's precision."""
        logits = []
        for batch in split.images.split(BATCH):
            with autocast(batch.device, self.recipe.precision):
                logits.append(predict(normalise(batch, images)).float())
        return torch.cat(logits)

    def look(self, model: DynamicViT, split: Split, images: ImageSet) -> Seen:
        """The model as its routers have it, at its present threshold."""
        model.eval()
        sizes, flops = [], []

        def predict(inputs: Tensor) -> Tensor:
            logits, routings = model.with_routing(inputs)
            sizes.append(sizes_by_image(routings, len(inputs)))
            flops.append(routed_flops(model, routings) * len(inputs) / len(split))
            return logits

        return seen(self.each_batch(predict, split, images), split.labels, torch.cat(sizes, dim=1), sum(flops))

    def given(self, model: DynamicViT, size_LBN: Tensor, split: Split, images: ImageSet) -> Seen:
        """The model with the given sizes, without the routers and their FLOPs."""
        model.eval()
        size_LTs = iter(part.flatten(1).long() for part in size_LBN.split(BATCH, dim=1))
        logits = self.each_batch(lambda inputs: model.with_sizes(inputs, next(size_LTs).unbind()), split, images)
        units = sum(width_BN.sum().item() for width_BN in chosen_widths(model, size_LBN)) / len(split)
        return seen(logits, split.labels, size_LBN, flops_without_ffns(model) + 4 * model.config.width * units)

    def shuffled(self, size_LBN: Tensor, by_position: bool = False) -> Tensor:
        """Each layer's sizes dealt out anew: among all tokens, or among the images' tokens at the same position."""
        generator = torch.Generator().manual_seed(self.seed)

        def deal(size_T: Tensor) -> Tensor:
            return size_T[torch.randperm(len(size_T), generator=generator).to(size_T.device)]

        if by_position:
            return torch.stack([torch.stack([deal(size_B) for size_B in size_BN.T], dim=1) for size_BN in size_LBN])
        return torch.stack([deal(size_BN.flatten()).view_as(size_BN) for size_BN in size_LBN])

    def controls(self, model: DynamicViT, routed: Seen, split: Split, images: ImageSet, dense_flops: int) -> dict:
        """The same network without its routers' choices: sizes moved between images, dealt out at random, or fixed."""
        place = self.given(model, self.shuffled(routed.size_LBN, by_position=True), split, images)
        found = {"val_accuracy_position": place.accuracy, "val_loss_position": place.loss}
        found |= self.random(model, routed, split, images, dense_flops)
        means = [round(width_BN.float().mean().item()) for width_BN in chosen_widths(model, routed.size_LBN)]
        found |= self.fixed("fixed", model, means, split, images, dense_flops)
        for index, size in enumerate(self.sizes):
            widths = [block.ffn.experts.widths[index] for block in model.blocks]
            found |= self.fixed(f"fixed_{size:g}", model, widths, split, images, dense_flops)
        return found

    def random(self, model: DynamicViT, routed: Seen, split: Split, images: ImageSet, dense_flops: int) -> dict:
        """Sizes dealt out at random in the shares of ``routed``: its FLOPs, less those of the routers."""
        chance = self.given(model, self.shuffled(routed.size_LBN), split, images)
        return {"val_accuracy_random": chance.accuracy, "val_loss_random": chance.loss, "relative_flops_random": chance.flops / dense_flops}

    def fixed(self, name: str, model: DynamicViT, widths: list[int], split: Split, images: ImageSet, dense_flops: int) -> dict:
        """The fine-tuned network with the same hidden units for every token of a layer, and no router."""
        static = model.static(widths)
        scores = evaluate_classifier(static, split, images, BATCH, self.recipe.precision)
        flops = measure.flops(static, normalise(split.images[:1], images))
        return {
            f"val_accuracy_{name}": scores["accuracy"],
            f"val_loss_{name}": scores["loss"],
            f"relative_flops_{name}": flops / dense_flops,
        }

    def labels(self, model: DynamicViT, routed: Seen, split: Split, images: ImageSet, dense_flops: int) -> dict:
        """What a perfect router would do: sizes by the labels of the tokens that the routed network makes.

        It tells a router that predicts badly from labels that are not worth predicting.
        """
        labels = []

        def predict(inputs: Tensor) -> Tensor:
            x_LTD = ffn_inputs(model, inputs)
            label_LT = [block.ffn.label(block.ffn.experts.chunks(x_TD)) for block, x_TD in zip(model.blocks, x_LTD)]
            labels.append(torch.stack(label_LT).view(len(label_LT), len(inputs), -1))
            return inputs.new_zeros(len(inputs))

        self.each_batch(predict, split, images)
        label_LBN = torch.cat(labels, dim=1).to(torch.uint8)
        perfect = self.given(model, label_LBN, split, images)
        chance = self.given(model, self.shuffled(label_LBN), split, images)
        shares_LE = torch.stack([(label_LBN == size).float().mean((1, 2)) for size in range(len(self.sizes))], dim=1)
        return {
            "router_agreement": (label_LBN == routed.size_LBN).float().mean().item(),
            "commonest_label": shares_LE.amax(1).mean().item(),
            "val_accuracy_label": perfect.accuracy,
            "val_loss_label": perfect.loss,
            "relative_flops_label": perfect.flops / dense_flops,
            "val_accuracy_label_random": chance.accuracy,
            "val_loss_label_random": chance.loss,
        }

    def sweep(self, model: DynamicViT, split: Split, images: ImageSet, dense_flops: int) -> dict[str, list]:
        """Compute against accuracy over the thresholds, of the router and of random sizes."""
        rows = []
        for threshold in self.thresholds:
            model.threshold = threshold
            routed = self.look(model, split, images)
            rows.append(
                {
                    "threshold": threshold,
                    "relative_flops": routed.flops / dense_flops,
                    "val_accuracy": routed.accuracy,
                    "val_loss": routed.loss,
                }
                | self.random(model, routed, split, images, dense_flops)
            )
        model.threshold = None
        return {f"sweep_{name}": values for name, values in pd.DataFrame(rows).to_dict("list").items()}

    def difficulty(self, model: DynamicViT, routed: Seen, dense_loss_B: Tensor, split: Split) -> dict:
        """Is difficulty real?  Rank correlations over images (of their mean size) and over patches (of their size)."""
        size_B = fractions(model, routed).mean((0, 2))
        size_BP = fractions(model, routed).mean(0)[:, -model.config.patches :]
        contrast_BP = model.patches(split.images.float()).std(-1)
        return {
            "size_loss_correlation": rank_correlation(size_B, routed.loss_B),
            "size_correct_correlation": rank_correlation(size_B, routed.correct_B),
            "size_dense_loss_correlation": rank_correlation(size_B, dense_loss_B),
            "size_contrast_correlation": rank_correlation(size_BP.flatten(), contrast_BP.flatten()),
        }

    def tables(self, model: DynamicViT, routed: Seen, split: Split) -> dict[str, list]:
        """Shares by layer and by position, accuracy by mean size, and a few images patch by patch."""
        sizes = range(len(self.sizes))
        patches, side = model.config.patches, model.config.image_size // model.config.patch
        fraction_BP = fractions(model, routed).mean(0)[:, -patches:]
        order_B = fraction_BP.mean(1).argsort(stable=True)
        shown_K = order_B[torch.linspace(0, len(order_B) - 1, EXAMPLES).long()]
        share_EP = torch.stack([(routed.size_LBN[..., -patches:] == size).float().mean((0, 1)) for size in sizes])
        groups = order_B.tensor_split(GROUPS)
        share_LE = torch.stack([(routed.size_LBN == size).float().mean((1, 2)) for size in sizes], dim=1)
        return {
            "share_by_layer": rounded(share_LE),
            "share_by_position": rounded(share_EP.view(len(self.sizes), side, side)),
            "mean_size_by_group": rounded(torch.stack([fraction_BP[group].mean() for group in groups])),
            "accuracy_by_group": rounded(torch.stack([routed.correct_B[group].float().mean() for group in groups])),
            "example_png": [png(split.images[index]) for index in shown_K],
            "example_label": split.labels[shown_K].tolist(),
            "example_prediction": routed.prediction_B[shown_K].tolist(),
            "example_mean_size": rounded(fraction_BP[shown_K].view(-1, side, side)),
        }


def seen(logits_BC: Tensor, label_B: Tensor, size_LBN: Tensor, flops: float) -> Seen:
    loss_B, prediction_B = F.cross_entropy(logits_BC, label_B, reduction="none"), logits_BC.argmax(1)
    return Seen(loss_B, prediction_B, prediction_B == label_B, size_LBN, flops)


def sizes_by_image(routings: list[Routing], images: int) -> Tensor:
    """The size of each token [L, B, N], as small integers."""
    return torch.stack([routing.expert_TK.view(images, -1) for routing in routings]).to(torch.uint8)


def fractions(model: DynamicViT, routed: Seen) -> Tensor:
    """The fraction of hidden units that each token was given [L, B, N]."""
    return torch.tensor(model.sizes, device=routed.size_LBN.device)[routed.size_LBN.long()]


def chosen_widths(model: DynamicViT, size_LBN: Tensor) -> list[Tensor]:
    """The number of hidden units that each token was given: one [B, N] per layer."""
    return [torch.tensor(block.ffn.experts.widths, device=size_BN.device)[size_BN.long()] for block, size_BN in zip(model.blocks, size_LBN)]


def rank_correlation(a: Tensor, b: Tensor) -> float | None:
    """Spearman's, with mean ranks for ties; None where one of the two does not vary."""
    ranks = pd.DataFrame({"a": a.float().cpu().numpy(), "b": b.float().cpu().numpy()}).rank()
    return None if (ranks.nunique() == 1).any() else float(ranks.corr().loc["a", "b"])


def rounded(values: Tensor) -> list:
    """Three digits are enough for a map; result files stay small."""
    return [rounded(row) if row.ndim else round(row.item(), 3) for row in values]
