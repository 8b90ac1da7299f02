"""Replacing the ReLUs of a network: function, statistics, gradients, budget; folding; and inference on shares end to end."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.models.resnet import ResNet, ResNetConfig
from lib.privacy.activation import KINDS
from lib.privacy.fold import folded
from lib.privacy.inference import SharedNetwork
from lib.privacy.mask import at_random
from lib.privacy.replace import calibrate, density, follow, masked_relus, relu_count, relu_shapes, replaced, replacement_loss
from lib.privacy.sharing import Parties

SHAPE = (2, 8, 8)


def trained_like(config=ResNetConfig((4, 6), (1, 2), channels=2), seed=0):
    """Batch norms with statistics, gains and shifts of their own."""
    torch.manual_seed(seed)
    model = ResNet(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    for _ in range(20):
        model(torch.randn(32, config.channels, 8, 8))
    return model.eval()


def with_masks(kind="quadratic", budget=60, seed=0, **settings):
    model = trained_like(seed=seed)
    network = replaced(model, SHAPE, kind, **settings)
    calibrate(network, [torch.randn(64, *SHAPE)])
    for layer, mask in zip(masked_relus(network), at_random([one.mask for one in masked_relus(network)], budget, seed)):
        layer.freeze(mask)
        layer.settle()
    return network.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_replacing_changes_nothing_at_first(kind):
    model = trained_like()
    before = copy.deepcopy(model.state_dict())
    network = replaced(model, SHAPE, kind)
    x = torch.randn(5, *SHAPE)
    torch.testing.assert_close(network.eval()(x), model(x), atol=1e-5, rtol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert sum(layer.mask.numel() for layer in masked_relus(network)) == relu_count(model, SHAPE) == 1152
    assert not any(isinstance(module, nn.ReLU) for module in network.modules())


def test_a_relu_used_twice_is_refused():
    shared = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(2, 3, 3), shared, nn.Conv2d(3, 3, 3))

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.relu, self.conv = model, shared, nn.Conv2d(3, 3, 3)

        def forward(self, x):
            return self.relu(self.inner(x))

    with pytest.raises(ValueError, match="more than once"):
        relu_shapes(Twice(), SHAPE)


def test_calibration_finds_the_statistics_of_the_activations():
    network = replaced(trained_like(), SHAPE)
    images = torch.randn(96, *SHAPE)
    calibrate(network, images.split(32))
    seen = []
    layer = masked_relus(network)[2]
    hook = layer.register_forward_pre_hook(lambda layer, args: seen.append(args[0]))
    network.eval()(images)
    hook.remove()
    torch.testing.assert_close(layer.mean, seen[0].mean((0, 2, 3)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(layer.std, seen[0].var((0, 2, 3), correction=0).sqrt(), atol=1e-3, rtol=1e-3)


def test_dapa_is_nearer_to_the_relu_than_the_identity():
    model, images, error = trained_like(), torch.randn(256, *SHAPE), {}
    for kind in KINDS:
        network = replaced(model, SHAPE, kind)
        calibrate(network, [torch.randn(256, *SHAPE)])
        first = masked_relus(network)[0]
        first.freeze(torch.zeros_like(first.mask))
        with torch.no_grad():
            before = model.bn(model.conv(images))
            error[kind] = (first.eval()(before) - before.relu()).square().mean().item()
    assert error["quadratic"] < error["linear"] < error["identity"] and error["quadratic"] < error["released"]


def test_the_loss_is_that_of_the_released_code():
    teacher, network = trained_like(), replaced(trained_like(), SHAPE)
    x, labels = torch.randn(6, *SHAPE), torch.arange(6)
    masked_relus(network)[0].mask.zero_()
    network.eval()
    share = 1 - masked_relus(network)[0].mask.numel() / 1152
    total, logged = replacement_loss(teacher, budget=64, penalty=7.0)(network, x, labels)
    logits, taught = network(x), teacher(x)
    by_hand = (
        F.cross_entropy(logits, labels)
        + 16 * F.kl_div((logits / 4).log_softmax(1), (taught / 4).softmax(1), reduction="batchmean")
        + 7.0 * (share - 64 / 1152)
    )
    torch.testing.assert_close(total, by_hand)
    assert logged["density"].item() == pytest.approx(share) and density(network).item() == pytest.approx(share)
    total.backward()
    score = masked_relus(network)[-1].score
    assert score.grad is not None and score.grad.ne(0).all()
    # Below the budget, and once the masks are settled, counting stops.
    under = replacement_loss(teacher, budget=1152, penalty=7.0)(network, x, labels)[0]
    for layer in masked_relus(network):
        layer.freeze(layer.mask)
    settled = replacement_loss(teacher, budget=64, penalty=7.0)(network, x, labels)[0]
    assert under.item() == pytest.approx(settled.item()) and settled.item() == pytest.approx(
        total.item() - 7.0 * (share - 64 / 1152), abs=1e-5
    )


def test_masks_follow_and_are_cut_to_the_budget():
    network = replaced(trained_like(), SHAPE, threshold=0.05)
    hook = follow(budget=25, moving=3)
    layers = masked_relus(network)
    with torch.no_grad():
        for step in (1, 2, 3, 4):
            for layer in layers:
                layer.score.sub_(0.3)
            hook(network, step)
            if step == 2:
                assert all(torch.equal(layer.mask > 0, layer.score > -0.05) for layer in layers)
                standing = [layer.mask.clone() for layer in layers]
    assert sum(layer.count for layer in layers) == 25 and all(layer.frozen for layer in layers)
    kept = torch.cat([layer.mask.flatten() for layer in layers])
    assert (torch.cat([mask.flatten() for mask in standing])[kept > 0] == 1).all() == (sum(int(m.sum()) for m in standing) >= 25)


# Folding and shares


@pytest.mark.parametrize("seed", range(3))
def test_folding_batch_norm_changes_nothing(seed):
    network = with_masks(seed=seed).double()
    flat = folded(network)
    x = torch.randn(4, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(flat(x), network(x), atol=1e-10, rtol=1e-10)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in flat.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", [0, 60, 1152])
def test_a_network_on_shares_gives_the_plain_networks_logits(kind, budget):
    network = folded(with_masks(kind, budget))
    x = torch.randn(6, *SHAPE)
    plain = copy.deepcopy(network).double()(x.double()).detach()
    for bits, tolerance in ((12, 0.05), (16, 0.005)):
        logits = SharedNetwork(network, Parties(budget, bits))(x)
        assert logits.dtype == torch.float64
        assert (logits - plain).abs().max() < tolerance * max(1.0, float(plain.abs().max()))


def test_messages_grow_with_the_relus_that_stay():
    sent, rounds = [], []
    for budget in (0, 60, 1152):
        parties = Parties(0)
        SharedNetwork(folded(with_masks(budget=budget)), parties)(torch.randn(1, *SHAPE))
        ledger = parties.ledger
        sent.append(ledger.total("online"))
        rounds.append(ledger.rounds["online"])
        assert ledger.bytes["online", "comparison"] == budget * 1168
        assert ledger.bytes["online", "square"] == (1152 - budget) * 16
        assert ledger.bytes["online", "input"] == 2 * 8 * 128 and ledger.bytes["online", "output"] == 2 * 8 * 10
    assert sent == sorted(sent) and rounds[0] < rounds[1] == rounds[2]
    parties = Parties(0)
    SharedNetwork(folded(with_masks("linear", 0)), parties)(torch.randn(1, *SHAPE))
    assert parties.ledger.total("online") < sent[0] and "square" not in parties.ledger.by_operation("online")
