"""The file of a pruned and quantized network: back to the last bit, honest about its size, and never taken on trust."""

import hashlib
import json
import lzma
import math
import zlib

import numpy as np
import pytest
import torch
from torch import nn

from lib.models.cnn import BaselineCNN, CNNConfig
from lib.models.mlp import MLP, MLPConfig
from lib.models.resnet import ResNet, ResNetConfig
from lib.models.vgg import VGG, vgg16
from lib.pruning.mask import attach, layers
from lib.quantization import bits, entropy, packed
from lib.quantization.fold import Affine, fold, halved
from lib.quantization.positions import read_positions, write_positions
from lib.quantization.values import read_values, section_of, value_bytes, write_values

NETWORKS = [
    (VGG(vgg16(1 / 16)), (3, 32, 32)),
    (ResNet(ResNetConfig((4, 6), (1, 2), channels=2)), (2, 8, 8)),
    (BaselineCNN(CNNConfig(((4,), (6, 6)), channels=1)), (1, 8, 8)),
    (MLP(MLPConfig(64, (30, 10))), (1, 8, 8)),
]


def sparse(model, shape, density=0.1, seed=0):
    """A network as training leaves it: statistics and gains of its own, and masks."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, -1.5, 1.5),
                (module.bias, -1, 1),
                (module.running_mean, -1, 1),
                (module.running_var, 0.5, 2),
            ):
                tensor.data.uniform_(low, high, generator=generator)
        elif getattr(module, "bias", None) is not None:
            module.bias.data.uniform_(-1, 1, generator=generator)
    return attach(
        model.eval(), {name: torch.rand(layer.weight.shape, generator=generator) < density for name, layer in layers(model).items()}
    )


def same_bits(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(
        np.array_equal(first[name].numpy().view(np.int32), second[name].numpy().view(np.int32)) for name in first
    )


# Bits


@pytest.mark.parametrize("width", [0, 1, 3, 8, 13, 32])
def test_numbers_of_any_width(width, monkeypatch):
    monkeypatch.setattr(bits, "PART", 16)
    numbers = np.random.default_rng(0).integers(0, 1 << width, 101)
    data = bits.pack(numbers, width)
    assert len(data) == bits.packed_bytes(101, width) == math.ceil(101 * width / 8)
    assert np.array_equal(bits.unpack(data, 101, width), numbers)
    with pytest.raises(ValueError, match="does not fit|must be from"):
        bits.pack([1 << width], width)
    if width:
        with pytest.raises(ValueError, match="do not fit"):
            bits.unpack(data[:-1], 101, width)


@pytest.mark.parametrize("parameter", [0, 2, 7])
def test_rice_codes(parameter):
    gaps = np.random.default_rng(1).geometric(0.02, 300) - 1
    data, unary = bits.rice(gaps, parameter)
    assert len(data) == bits.packed_bytes(300, parameter) + unary
    assert len(data) <= math.ceil(bits.rice_bits(gaps, parameter) / 8) + 1
    assert np.array_equal(bits.unrice(data, 300, parameter), gaps)
    assert np.array_equal(bits.unrice(data + b"\xff\xff", 300, parameter), gaps)  # what follows is not read
    with pytest.raises(ValueError, match="cut short"):
        bits.unrice(data[:-3], 300, parameter)
    best = bits.rice_parameter(gaps)
    assert bits.rice_bits(gaps, best) == min(bits.rice_bits(gaps, p) for p in range(20))
    assert bits.rice([], 3) == (b"", 0)


# Positions


@pytest.mark.parametrize("seed", range(12))
def test_positions_of_any_mask(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 9, rng.integers(1, 5)))
    for density in (0.0, 0.02, 0.4, 0.9, 1.0):
        mask = rng.random(shape) < density
        data, how = write_positions(mask)
        assert len(data) == how.bytes <= math.ceil(mask.size / 8) + 1  # never more than a bitmap and a byte
        assert np.array_equal(read_positions(data + b"more", how, shape), mask)


@pytest.mark.parametrize(
    "group, pattern",
    [("kernel", (8, 6, 1, 1)), ("filter", (8, 1, 1, 1)), ("channel", (1, 6, 1, 1)), ("all", (1, 1, 1, 1)), ("element", (8, 6, 3, 3))],
)
def test_structures_are_paid_for_by_the_group(group, pattern):
    rng = np.random.default_rng(3)
    coarse = np.ones(pattern, bool) if group == "all" else rng.random(pattern) < 0.4
    mask = np.broadcast_to(coarse, (8, 6, 3, 3))
    data, how = write_positions(mask)
    assert how.group == group and len(data) <= math.ceil(coarse.size / 8) + 1
    assert np.array_equal(read_positions(data, how, mask.shape), mask)


def test_a_linear_layer_has_filters_and_channels_too():
    mask = np.zeros((6, 40), bool)
    mask[:, ::7] = True
    assert write_positions(mask)[1].group == "channel"
    assert write_positions(mask.T.copy())[1].group == "filter"
    for wrong in (mask.astype(float), np.ones((1,) * 5, bool)):
        with pytest.raises(ValueError, match="bool array"):
            write_positions(wrong)


def test_positions_outside_the_tensor_are_refused():
    data, how = write_positions(np.eye(20, dtype=bool))
    with pytest.raises(ValueError, match="outside"):
        read_positions(data, how, (5, 5))


VGG16 = [
    (64, 3, 3, 3),
    (64, 64, 3, 3),
    (128, 64, 3, 3),
    (128, 128, 3, 3),
    (256, 128, 3, 3),
    (256, 256, 3, 3),
    (256, 256, 3, 3),
    (512, 256, 3, 3),
    *[(512, 512, 3, 3)] * 5,
    (10, 512),
]
WEIGHTS = sum(math.prod(shape) for shape in VGG16)


@pytest.fixture(scope="module")
def places():
    """Random masks of VGG16's shapes at three densities, as gaps do not come cheaper: drawn by their gaps."""
    rng = np.random.default_rng(0)
    found = {}
    for ratio in (50, 500, 1000):
        found[ratio] = []
        for shape in VGG16:
            mask = np.zeros(math.prod(shape), bool)
            drawn = np.cumsum(rng.geometric(1 / ratio, 2 * len(mask) // ratio + 50)) - 1
            mask[drawn[drawn < len(mask)]] = True
            found[ratio].append(mask.reshape(shape))
    return found


@pytest.mark.parametrize("ratio, per_weight, kib", [(50, 7.1, 254), (500, 10.4, 37.4), (1000, 11.4, 20.5)])
def test_rice_codes_are_within_two_per_cent_of_the_entropy(places, ratio, per_weight, kib):
    assert WEIGHTS == 14_715_584
    spent = sum(len(write_positions(mask)[0]) for mask in places[ratio])
    count = sum(int(mask.sum()) for mask in places[ratio])
    bound = entropy.layered_position_bits((int(mask.sum()), mask.size) for mask in places[ratio]) / 8
    assert bound * 0.995 <= spent <= 1.02 * bound + 2 * len(VGG16)
    assert 8 * spent / count == pytest.approx(per_weight, rel=0.02)
    assert entropy.position_bits(round(WEIGHTS / ratio), WEIGHTS) / 8192 == pytest.approx(kib, rel=0.01)


def test_positions_of_the_full_network_come_back(places):
    for mask in places[1000]:
        data, how = write_positions(mask)
        assert np.array_equal(read_positions(data, how, mask.shape), mask)


@pytest.mark.parametrize(
    "ratio, bits_, entries, width, honest",
    [
        (50, 32, 0, 32, 41),
        (500, 32, 0, 32, 377),
        (1000, 32, 0, 32, 737),
        (1000, 4, 14 * 16, 32, 2013),
        (1000, 2, 880 * 4, 32, 1519),
        (1000, 2, 880 * 4, 16, 1857),
    ],
)
def test_honest_ratios(ratio, bits_, entries, width, honest):
    count = round(WEIGHTS / ratio)
    assert entropy.weights_ratio(WEIGHTS, count, bits_, entries, width) == pytest.approx(honest, rel=0.006)
    assert entropy.claimed_ratio(WEIGHTS, count, bits_) == pytest.approx(ratio * 32 / bits_, rel=1e-3)


@pytest.mark.parametrize("ratio, honest", [(100, 97), (500, 483)])
def test_whole_kernels_need_few_positions(ratio, honest):
    kernels = (WEIGHTS - 5120) // 9
    places_ = entropy.position_bits(kernels // ratio, kernels)
    assert entropy.weights_ratio(WEIGHTS, 9 * (kernels // ratio), 32, positions=places_) == pytest.approx(honest, rel=0.01)


def test_entropies():
    assert entropy.entropy(0.5) == 1 and entropy.entropy(0) == entropy.entropy(1) == 0 == entropy.position_bits(0, 0)
    assert entropy.csr_bits([(10, 4)]) == 16 * 15
    for wrong in (
        lambda: entropy.entropy(1.5),
        lambda: entropy.position_bits(3, 2),
        lambda: entropy.claimed_ratio(5, 0),
        lambda: entropy.weights_ratio(5, 0, 4),
    ):
        with pytest.raises(ValueError):
            wrong()


# Values


def test_sections_are_those_of_the_grid():
    section = section_of((32, 8, 3, 3), (16, 4))
    assert section.shape == (32, 8, 3, 3) and set(np.bincount(section.ravel())) == {32 * 8 * 9 // 64} and section.max() == 63
    assert section[5, 3, 0, 0] == 2 * 4 + 1
    assert section_of((64, 3, 3, 3), (16, 4)).max() == 47  # three inputs cannot be cut into four
    assert not section_of((7,), (1, 1)).any() and not section_of((7, 5), (1, 1)).any()
    assert sorted(set(np.bincount(section_of((20, 1), (16, 4)).ravel()))) == [1, 2]


@pytest.mark.parametrize("grid", [(1, 1), (16, 4)])
@pytest.mark.parametrize("unique, half", [(4, True), (16, False), (13, False), (1, True)])
def test_values_with_codebooks(grid, unique, half):
    rng = np.random.default_rng(unique)
    section = np.sort(section_of((64, 32), grid).ravel()[rng.integers(0, 2048, 1500)])
    books = rng.normal(size=(64, unique)).astype(np.float16 if half else np.float32).astype(np.float32)
    values = books[section, rng.integers(0, unique, 1500)]
    data, how = write_values(values, {grid: section})
    assert how.form == "codes" and how.bits == math.ceil(math.log2(unique)) and how.half == half and how.grid == grid
    assert how.entries <= unique * len(set(section)) and len(data) == value_bytes(how, 1500)
    assert np.array_equal(read_values(data, how, section), values)


def test_the_smallest_form_that_gives_the_same_bits():
    rng = np.random.default_rng(0)
    many = rng.normal(size=1000).astype(np.float32)
    one = {(1, 1): np.zeros(1000, int)}
    half = many.astype(np.float16).astype(np.float32)
    for values, form, spent in ((many, "fp32", 4000), (half, "fp16", 2000), (np.sign(many), "codes", 125 + 4 + 1)):
        data, how = write_values(values, one)
        assert (how.form, len(data)) == (form, spent) and np.array_equal(read_values(data, how, one[1, 1]), values)
    for wrong in (0.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="finite and not zero"):
            write_values(np.array([1, wrong], np.float32), {})


# Folding


@pytest.mark.parametrize("model, shape", NETWORKS, ids=lambda part: type(part).__name__)
@pytest.mark.parametrize("density", [0.02, 0.3])
def test_folding_keeps_the_function_and_the_file_keeps_the_bits(model, shape, density, tmp_path):
    model = sparse(model, shape, density)
    images = torch.randn(4, *shape)
    folded = fold(model, shape)
    torch.testing.assert_close(folded(images), model(images), atol=2e-4, rtol=2e-4)
    for number, network in enumerate((folded, halved(folded))):
        path = tmp_path / f"{number}.packed"
        sizes = packed.write(network, path, {"dataset": "none"})
        back = packed.read(path)
        assert same_bits(network, back) and torch.equal(back(images), network(images)) and not back.training
        assert sizes.total == path.stat().st_size and sizes == packed.sizes_of(path) and packed.about(path) == {"dataset": "none"}
        assert min(vars(sizes).values()) >= 0
        assert packed.xz_bytes(path) == len(lzma.compress(path.read_bytes(), preset=6 | lzma.PRESET_EXTREME))
    assert (tmp_path / "1.packed").stat().st_size < (tmp_path / "0.packed").stat().st_size
    assert hasattr(next(iter(layers(model).values())), "parametrizations")  # it stays as it was


def test_only_what_can_reach_the_output_keeps_its_scale_and_shift():
    """By hand: channel 1 gets nothing but is used, channel 2 gets something but is not used, channel 3 neither."""
    model = BaselineCNN(CNNConfig(((4,), (2,)), channels=1))
    model = sparse(model, (1, 4, 4), 1.0)
    masks = {name: torch.ones_like(layer.weight, dtype=torch.bool) for name, layer in layers(model).items()}
    first, second, _ = masks
    masks[first][[1, 3]] = False
    masks[second][:, [2, 3]] = False
    attach(model, masks)
    folded = fold(model, (1, 4, 4))
    affine = next(module for module in folded.modules() if isinstance(module, Affine))
    assert affine.scale.ne(0).tolist() == [True, False, False, False]
    assert affine.shift.ne(0).tolist() == [True, True, False, False]
    images = torch.randn(3, 1, 4, 4)
    torch.testing.assert_close(folded(images), model(images), atol=1e-5, rtol=1e-5)


def test_units_without_a_path_lose_their_bias():
    model = sparse(MLP(MLPConfig(4, (3,))), (1, 2, 2), 1.0)
    masks = {name: torch.ones_like(layer.weight, dtype=torch.bool) for name, layer in layers(model).items()}
    masks["head"][:, 1] = False
    folded = fold(attach(model, masks), (1, 2, 2))
    assert folded.layers[0].bias.ne(0).tolist() == [True, False, True] and folded.head.bias.ne(0).all()
    assert torch.equal(model(torch.ones(1, 4)), folded(torch.ones(1, 4)))


def test_a_network_without_weights_is_only_its_last_bias(tmp_path):
    folded = fold(sparse(MLP(MLPConfig(4, (3,))), (1, 2, 2), 0.0), (1, 2, 2))
    sizes = packed.write(folded, tmp_path / "empty")
    assert sizes.weights == 0 and same_bits(folded, packed.read(tmp_path / "empty"))


def test_numbers_too_large_for_sixteen_bits():
    model = MLP(MLPConfig(4, (3,)))
    model.head.weight.data[0, 0] = 1e5
    with pytest.raises(ValueError, match="head.weight"):
        halved(model)


# What cannot be written or read


def test_what_cannot_be_packed(tmp_path):
    model = sparse(NETWORKS[3][0], (1, 8, 8))
    with pytest.raises(ValueError, match="one of VGG"):
        packed.write(nn.Linear(2, 2), tmp_path / "x")
    with pytest.raises(ValueError, match="fold"):
        packed.write(model, tmp_path / "x")
    folded = fold(model, (1, 8, 8))
    folded.head.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="finite"):
        packed.write(folded, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_damaged_short_and_foreign_files(tmp_path):
    path = tmp_path / "file"
    packed.write(fold(sparse(NETWORKS[3][0], (1, 8, 8)), (1, 8, 8)), path)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    for data, message in (
        (bytes(damaged), "checksum"),
        (whole[:-1], "checksum"),
        (whole[:20], "checksum"),
        (b"", "not a packed network"),
        (b"PK\x03\x04" + whole, "not a packed network"),
        (whole + b"\0", "checksum"),
    ):
        path.write_bytes(data)
        for reader in (packed.read, packed.about, packed.sizes_of):
            with pytest.raises(packed.Unreadable, match=message):
                reader(path)
    with pytest.raises(FileNotFoundError):
        packed.read(tmp_path / "none")


def test_a_right_checksum_over_wrong_content(tmp_path, monkeypatch):
    """Whoever writes such a file by other means gets a clear error too, not a strange network."""
    folded = fold(sparse(NETWORKS[3][0], (1, 8, 8)), (1, 8, 8))
    path = tmp_path / "file"
    with monkeypatch.context() as patch:
        patch.setitem(packed.FAMILIES, "Other", packed.FAMILIES["MLP"])
        folded.__class__ = type("Other", (MLP,), {})
        packed.write(folded, path)
        folded.__class__ = MLP
    with pytest.raises(packed.Unreadable, match="another version"):
        packed.read(path)
    with monkeypatch.context() as patch:
        patch.setattr(packed, "write_values", lambda *args: (lambda found: (found[0][:-2], found[1]))(write_values(*args)))
        packed.write(folded, path)
    with pytest.raises(packed.Unreadable, match="header says"):
        packed.read(path)


@pytest.fixture(scope="module")
def resealed(tmp_path_factory):
    """Writes a file with a changed header, a right checksum and the old body; returns its path."""
    folder = tmp_path_factory.mktemp("resealed")
    model, shape = NETWORKS[3]
    packed.write(fold(sparse(model, shape), shape), folder / "whole", {"dataset": "digits"})
    whole = (folder / "whole").read_bytes()
    start = len(packed.MAGIC) + 4
    end = start + int.from_bytes(whole[start - 4 : start], "big")

    def write(change):
        header = json.loads(zlib.decompress(whole[start:end]))
        header = change(header) or header
        text = zlib.compress(header if isinstance(header, bytes) else json.dumps(header).encode())
        data = packed.MAGIC + len(text).to_bytes(4, "big") + text + whole[end : -packed.CHECK]
        path = folder / "changed"
        path.write_bytes(data + hashlib.sha256(data).digest())
        return path

    return write


def field(index, value):
    """Change one entry of how the first weight was written."""

    def change(header):
        next(how for how in header["tensors"] if how)[index] = value

    return change


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda header: b" " * (1 << 26), "header that cannot be read: it is longer than 1048576 bytes"),
        (lambda header: b'{"a":' * 10_000, "header that cannot be read"),
        (lambda header: [1], "must tell of model"),
        (lambda header: {"model": "MLP"}, "must tell of model"),
        (lambda header: header | {"about": {"dataset": 3}}, "not text"),
        (lambda header: header | {"about": None}, "must tell of"),
    ],
)
def test_every_reader_refuses_a_header_that_says_nothing(resealed, change, words):
    path = resealed(change)
    for reader in (packed.read, packed.about, packed.sizes_of):
        with pytest.raises(packed.Unreadable, match=words):
            reader(path)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda header: header["config"].update(hidden=[10**6, 10**6]), "1,000,0.* parameters, more than 100,000,000"),
        (lambda header: header["config"].update(inputs=10**15), "parameters, more than"),
        (lambda header: header["config"].update(inputs=10**30), "does not hold"),
        (lambda header: header["config"].update(hidden=[1] * 100_000), "100,000 layers, more than 1,000"),
        (lambda header: {**header, "model": "ViT", "config": {"depth": 10**9}}, "1,000,000,000 layers"),
        (lambda header: {**header, "model": "ResNet", "config": {"blocks": [10**9, 1, 1]}}, "layers, more than"),
        (lambda header: {**header, "model": "ViT", "config": {"heads": 0}}, "does not hold"),
        (lambda header: {**header, "model": "ViT", "config": {"moe": {"experts": 4}}}, "does not hold"),
        (lambda header: header | {"model": "Elephant"}, "no architecture 'Elephant'"),
        (lambda header: header["config"].update(widht=3), "widht"),
        (lambda header: header["config"].update(hidden="many"), "does not hold"),
        (lambda header: header.update(tensors=header["tensors"][:-1]), "does not hold"),
        (lambda header: header["tensors"].__setitem__(0, "x"), "does not hold"),
        (field(0, "row"), "positions"),
        (field(1, 1), "positions"),
        (field(2, 10**12), "positions"),
        (field(2, -1), "whole number"),
        (field(2, 2.5), "whole number"),
        (field(3, 60), "positions"),
        (field(4, 10**12), "positions"),
        (field(5, "fp8"), "does not hold"),
        (field(6, [10**6, 10**6]), "codebooks"),
        (field(6, 1), "does not hold"),
        (field(7, 63), "codebooks"),
        (field(8, 10**12), "codebooks"),
        (field(9, 10**12), "codebooks"),
        (field(10, 60), "codebooks"),
    ],
)
def test_sizes_from_a_file_are_limited_before_memory_is_taken(resealed, change, words):
    path = resealed(change)
    for reader in (packed.read, packed.sizes_of):
        with pytest.raises(packed.Unreadable, match=words) as refusal:
            reader(path)
        assert str(path) in str(refusal.value)
    assert packed.about(path) == {"dataset": "digits"}


def test_what_would_be_refused_is_not_written(monkeypatch, tmp_path):
    monkeypatch.setattr(packed, "MOST_PARAMETERS", 1000)
    model, shape = NETWORKS[3]
    with pytest.raises(ValueError, match="parameters; files are for up to 1,000"):
        packed.write(fold(model, shape), tmp_path / "file")
