"""The encoder: masks of heads, neurons and layers, and removing for good what they switch off."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_model, save_model

from lib.measure.cost import flops
from lib.models.encoder import Classifier, Encoder, EncoderConfig, MaskedLM
from lib.models.encoder_remove import remove, smaller

PAD = 50


def encoder(**changes) -> Encoder:
    torch.manual_seed(0)
    return Encoder(EncoderConfig(**{"vocabulary": 54, "context": 16, "width": 24, "depth": 3, "heads": 4, "hidden": 40} | changes)).eval()


def text(rows: int = 5) -> torch.Tensor:
    tokens = torch.randint(0, PAD, (rows, 12), generator=torch.Generator().manual_seed(1))
    tokens[0, 8:] = PAD
    return tokens


def random_masks(seed: int, rows: int = 1) -> dict:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return (torch.rand(shape, generator=generator) < 0.5).float()

    return {
        "head_masks": [drawn(rows, 4) for _ in range(3)],
        "neuron_masks": [drawn(rows, 40) for _ in range(3)],
        "layer_masks": [drawn(rows, 1) for _ in range(3)],
    }


@pytest.mark.parametrize("seed", range(8))
def test_what_masks_switch_off_can_be_removed(seed):
    model, tokens, masks = encoder(), text(), random_masks(seed)
    if seed % 2:
        masks["head_masks"][0] = torch.zeros(1, 4)
        masks["neuron_masks"][1] = torch.zeros(1, 40)
    small = remove(model, **masks)
    padding = tokens == PAD
    torch.testing.assert_close(small(tokens, padding), model(tokens, padding, **masks), atol=1e-5, rtol=0)
    assert small.config.heads_by_layer == tuple(int(mask.sum()) for mask in masks["head_masks"])


def test_learnt_coefficients_go_into_the_weights():
    model, tokens = encoder(), text()
    masks = {name: [mask * 1.7 for mask in found] for name, found in random_masks(0).items()}
    torch.testing.assert_close(remove(model, **masks)(tokens), model(tokens, **masks), atol=1e-5, rtol=0)


def test_an_encoder_without_heads_and_neurons_still_computes_and_saves(tmp_path):
    model = encoder()
    small = remove(model, [torch.zeros(4)] * 3, [torch.zeros(40)] * 3)
    assert small.config.heads_by_layer == small.config.hidden_by_layer == (0, 0, 0)
    save_model(small, str(tmp_path / "small.safetensors"))
    again = Encoder(small.config)
    load_model(again, str(tmp_path / "small.safetensors"))
    assert torch.equal(again.eval()(text()), small(text()))


def test_a_smaller_network_costs_less():
    model, tokens = Classifier(encoder(), 2, PAD), text()
    masks = random_masks(3)
    assert flops(smaller(model, **masks), tokens) < 0.8 * flops(model, tokens)
    assert model.encoder.config.heads == 4  # the one it was made from is as it was


def test_each_input_may_have_masks_of_its_own():
    model, tokens, masks = encoder(), text(), random_masks(5, rows=5)
    together = model(tokens, **masks)
    for row in range(5):
        alone = {name: [mask[row : row + 1] for mask in found] for name, found in masks.items()}
        torch.testing.assert_close(together[row : row + 1], model(tokens[row : row + 1], **alone), atol=1e-5, rtol=0)


def test_ones_change_nothing_and_masks_have_gradients():
    model, tokens = encoder(), text()
    ones = {
        "head_masks": [torch.ones(1, 4, requires_grad=True) for _ in range(3)],
        "neuron_masks": [torch.ones(1, 40, requires_grad=True) for _ in range(3)],
        "layer_masks": [torch.ones(1, 1, requires_grad=True) for _ in range(3)],
    }
    hidden = model(tokens, **ones)
    torch.testing.assert_close(hidden, model(tokens))
    hidden.square().sum().backward()
    assert all(mask.grad.abs().sum() > 0 for masks in ones.values() for mask in masks)


def test_padding_is_not_looked_at():
    model = Classifier(encoder(), 2, PAD)
    tokens = text(1)
    torch.testing.assert_close(model(tokens), model(tokens[:, :8]), atol=1e-6, rtol=0)
    other = tokens.clone()
    other[0, 3] = (other[0, 3] + 1) % PAD
    assert not torch.allclose(model(tokens), model(other))


def test_blocks_can_be_run_one_by_one():
    model, tokens = encoder(), text()
    x, seen = model.start(tokens, tokens == PAD)
    for block in model.blocks:
        x = block(x, seen)
    assert torch.equal(x, model(tokens, tokens == PAD))


def test_a_masked_language_model_predicts_some_places_or_all():
    model, tokens = MaskedLM(encoder()), text()
    places = torch.tensor([[1, 4]] * 5)
    every = model(tokens)
    assert every.shape == (5, 12, 54)
    torch.testing.assert_close(model(tokens, places), every[:, [1, 4]])


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"heads": 5}, "choose a multiple"),
        ({"heads": (1, 2)}, "one per layer"),
        ({"heads": (1, 2, 0)}, "head_dim"),
        ({"hidden": -1}, "negative"),
        ({"dropout": 1.0}, "dropout"),
        ({"depth": 0}, "depth"),
    ],
)
def test_geometry_that_does_not_fit_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        encoder(**wrong)


def test_masks_that_do_not_fit_are_refused():
    model = encoder()
    with pytest.raises(ValueError, match="one per layer"):
        model(text(), head_masks=[None])
    with pytest.raises(ValueError, match="differ between inputs"):
        remove(model, **random_masks(0, rows=2))
    with pytest.raises(ValueError, match="has 3 entries where the layer has 4"):
        remove(model, [torch.ones(3)] * 3)
    with pytest.raises(ValueError, match="does not fit the context"):
        model(torch.zeros(1, 17, dtype=torch.int64))


def test_masks_that_are_trained_keep_their_precision_in_bf16():
    model, tokens = encoder(), text()
    mask = [torch.full((1, 40), 1.002) for _ in range(3)]  # bf16 knows 1 and 1.0078
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        plain = model(tokens)
        assert torch.equal(model(tokens, neuron_masks=mask), plain)
    trained = [part.requires_grad_() for part in mask]
    with torch.autocast("cpu", torch.bfloat16):
        found = model(tokens, neuron_masks=trained)
    assert not torch.equal(found, plain) and found.dtype == plain.dtype
    found.float().square().sum().backward()
    assert all(part.grad.dtype == torch.float32 for part in trained)
