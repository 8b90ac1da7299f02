"""A batch of no images or texts gives no logits, and no number that is none."""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from lib.models.cnn import BaselineCNN, CNNConfig
from lib.models.gpt import GPT, GPTConfig
from lib.models.mlp import MLP, MLPConfig
from lib.models.resnet import ResNet, ResNetConfig
from lib.models.vgg import VGG, vgg16
from lib.models.vit import ViT, ViTConfig
from lib.moe.layer import MoEConfig
from lib.moe.routers import ROUTERS

IMAGES = torch.zeros(0, 3, 32, 32)
SMALL = ViTConfig(width=24, depth=2, heads=3, hidden=24)


@pytest.mark.parametrize(
    "model",
    [
        VGG(vgg16(1 / 16)),
        ResNet(ResNetConfig((4,), (1,))),
        BaselineCNN(CNNConfig(((4,), (4,)))),
        MLP(MLPConfig(3072, (4,))),
        ViT(SMALL),
        ViT(replace(SMALL, pool="class")),
    ],
    ids=lambda model: type(model).__name__,
)
def test_no_image_gives_no_logits(model):
    assert model.eval()(IMAGES).shape == (0, 10)


@pytest.mark.parametrize("batch", [(0, 8), (2, 0)])
def test_no_text_gives_no_logits(batch):
    model = GPT(GPTConfig(vocabulary=50, context=8, width=16, depth=1, heads=2, hidden=16)).eval()
    assert model(torch.zeros(batch, dtype=torch.long)).shape == (*batch, 50)


@pytest.mark.parametrize("router", ROUTERS)
def test_routers_of_no_token_report_numbers(router):
    model = ViT(replace(SMALL, moe=MoEConfig(experts=4, router=router))).eval()
    logits, routings = model.with_routing(IMAGES)
    assert logits.shape == (0, 10) and len(routings) == 2
    for routing in routings:
        found = [getattr(routing, field.name) for field in fields(routing)]
        assert all(value.isfinite().all() for value in found if isinstance(value, Tensor))
