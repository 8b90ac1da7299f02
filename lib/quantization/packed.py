"""A pruned and quantized network in one small file that is read back to the last bit.

    sizes = write(fold(model, images.shape), path, about={"dataset": "cifar10"})
    network = read(path)                       # a plain network, ready to run
    sizes.total, sizes.positions, sizes.codes, ...

The file: 8 bytes that name the format, the header's length, a header (zlib-compressed JSON: the architecture, and how each
tensor was written), then per tensor where its values are (:mod:`lib.quantization.positions`) and what they are
(:mod:`lib.quantization.values`), and 32 bytes of SHA-256 over all that.  Tensors of zeros cost one character of the header.
Nothing in it is executed: it holds numbers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lib.quantization import bits
from lib.quantization.families import FAMILIES, as_its_config_says, packable
from lib.quantization.fold import unfilled
from lib.quantization.positions import GROUPS, Positions, read_positions, write_positions
from lib.quantization.values import FORMS, WIDEST, Values, read_values, section_of, value_bytes, write_values
from lib.system.checks import require
from lib.system.whole_file import replacing

__all__ = ["FAMILIES", "Sizes", "Unreadable", "about", "dense_xz_bytes", "packable", "read", "sizes_of", "write", "xz_bytes"]

MAGIC = b"EDLpack1"
CHECK = 32

#: Sections of a weight that may have codebooks of their own: one, or 16 times 4 of rows and columns.
GRIDS = ((1, 1), (16, 4))


#: What a header tells of, and as what.
HEADER = {"model": str, "config": dict, "about": dict, "tensors": list}

#: Nothing larger is written, and a file that says otherwise is refused before memory is taken: parameters of the network,
#: its layers, and bytes of the header once it is unpacked.
MOST_PARAMETERS, MOST_LAYERS, LONGEST_HEADER = 100_000_000, 1_000, 1 << 20


class Unreadable(ValueError):
    """The file is not a packed network, or not what was written."""


@dataclass(frozen=True)
class Sizes:
    """Bytes of one file.

    ``codes``      values of weights: codes, or the numbers themselves where there is no codebook
    ``positions``  of weights
    ``codebooks``  of weights
    ``norms``      scales, shifts and biases, with their positions
    ``header``     architecture, how to read the rest, and the checksum
    """

    codes: int = 0
    positions: int = 0
    codebooks: int = 0
    norms: int = 0
    header: int = 0

    @property
    def weights(self) -> int:
        """Without scales, shifts, biases and header: what a "weights only" ratio should count."""
        return self.codes + self.positions + self.codebooks

    @property
    def total(self) -> int:
        return self.weights + self.norms + self.header


def write(model: nn.Module, path: Path, about: dict[str, str] | None = None) -> Sizes:
    """Write a network that :func:`lib.quantization.fold.fold` gave, atomically; returns how many bytes went where.

    about: a few words that :func:`about` gives back, such as the data set.
    Raises ValueError for an architecture that is not one of :data:`FAMILIES`, and for weights that are not finite.
    """
    data, sizes = packed(model, about or {})
    with replacing(Path(path)) as part:
        part.write_bytes(data)
    return sizes


def read(path: Path) -> nn.Module:
    """The network of a file that :func:`write` wrote, in evaluation mode, each parameter as it was to the last bit.

    Raises FileNotFoundError, and :class:`Unreadable` for a damaged, shortened or foreign file.
    """
    header, body = opened(path)
    with held_to_its_header(path):
        model = built(header)
        for (name, tensor), how in zip(tensors(model), header["tensors"], strict=True):
            body = read_tensor(tensor, how, body)
        require(not len(body), "it is longer than its header says")
    return model


def about(path: Path) -> dict[str, str]:
    """What was said about the network when it was written.  Raises as :func:`read` does."""
    return opened(path)[0]["about"]


def sizes_of(path: Path) -> Sizes:
    """The sizes that :func:`write` returned.  Raises as :func:`read` does."""
    header, _ = opened(path)
    found = Sizes()
    with held_to_its_header(path):
        for (name, tensor), how in zip(tensors(outlined(header)), header["tensors"], strict=True):
            if how:
                places, values = described(how, tensor)
                found = added(found, name, tensor, places, values, occupied(places, tensor))
    return added_header(found, Path(path).stat().st_size)


def xz_bytes(path: Path) -> int:
    """Size of the file after ``xz -6e``: what is left to be had by a general compressor."""
    return len(lzma.compress(Path(path).read_bytes(), preset=6 | lzma.PRESET_EXTREME))


def dense_xz_bytes(model: nn.Module) -> int:
    """Bytes of all parameters in 32 bits, zeros and all, after ``xz``: what one gets without any format."""
    return len(lzma.compress(b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values()), preset=6))


# Writing


def packed(model: nn.Module, about: dict[str, str]) -> tuple[bytes, Sizes]:
    kind = type(model).__name__
    require(kind in FAMILIES, f"a {kind} cannot be packed: it must be one of {', '.join(FAMILIES)}")
    require(
        not any(isinstance(module, nn.modules.batchnorm._BatchNorm) or hasattr(module, "parametrizations") for module in model.modules()),
        "the network still has batch norm, masks or codebooks: give fold(model, image_shape)",
    )
    count = sum(tensor.numel() for _, tensor in tensors(model))
    require(count <= MOST_PARAMETERS, f"the network has {count:,} parameters; files are for up to {MOST_PARAMETERS:,}")
    require(
        as_its_config_says(model),
        "the network is not what its config says, as when channels were removed without "
        "telling it, or has a mixture of experts: a file of safetensors can hold it",
    )
    default = FAMILIES[kind][1]
    plain = {field.name for field in fields(default) if getattr(model.config, field.name) == field.default}
    records, blobs, sizes = [], [], Sizes()
    for name, tensor in tensors(model):
        array = tensor.detach().cpu().contiguous().numpy()
        mask = array != 0
        if not mask.any():
            records.append(0)
            continue
        where, places = write_positions(mask)
        what, values = write_values(array[mask], {grid: section_of(array.shape, grid)[mask] for grid in grids(tensor)})
        records.append([*asdict(places).values(), *asdict(values).values()])
        blobs += [where, what]
        sizes = added(sizes, name, tensor, places, values, int(mask.sum()))
    config = {name: value for name, value in asdict(model.config).items() if name not in plain}
    header = zlib.compress(
        json.dumps({"model": kind, "config": config, "about": about, "tensors": records}, separators=(",", ":")).encode(), 9
    )
    data = MAGIC + len(header).to_bytes(4, "big") + header + b"".join(blobs)
    data += hashlib.sha256(data).digest()
    return data, added_header(sizes, len(data))


def tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """All parameters in the order of the file: by name."""
    return sorted(model.state_dict().items())


def grids(tensor: Tensor) -> tuple[tuple[int, int], ...]:
    return GRIDS if tensor.ndim > 1 else GRIDS[:1]


def added(sizes: Sizes, name: str, tensor: Tensor, places: Positions, values: Values, count: int) -> Sizes:
    """With this tensor's bytes.  A weight is a matrix or a stack of kernels; everything else belongs to the norms."""
    found, spent = asdict(sizes), value_bytes(values, count)
    if tensor.ndim > 1:
        found["positions"] += places.bytes
        found["codebooks"] += values.codebook_bytes
        found["codes"] += spent - values.codebook_bytes
    else:
        found["norms"] += places.bytes + spent
    return Sizes(**found)


def added_header(sizes: Sizes, whole: int) -> Sizes:
    return Sizes(**asdict(sizes) | {"header": whole - sizes.weights - sizes.norms})


# Reading


def opened(path: Path) -> tuple[dict, memoryview]:
    """Header and body of a file whose checksum is right."""
    with open(path, "rb") as file:
        data = file.read(8 * MOST_PARAMETERS)
    if data[: len(MAGIC)] != MAGIC:
        raise Unreadable(f"{path} is not a packed network: write one with lib.quantization.packed.write")
    start = len(MAGIC) + 4
    if len(data) < start + CHECK or hashlib.sha256(data[:-CHECK]).digest() != data[-CHECK:]:
        raise Unreadable(f"{path} is damaged or cut short: its checksum does not fit; write or copy it again")
    end = start + int.from_bytes(data[len(MAGIC) : start], "big")
    try:
        unpacking = zlib.decompressobj()
        text = unpacking.decompress(data[start:end], LONGEST_HEADER)
        require(unpacking.eof, f"it is longer than {LONGEST_HEADER} bytes, or cut short")
        header = json.loads(text)
        require(
            isinstance(header, dict) and {name: type(header.get(name)) for name in HEADER} == HEADER, f"it must tell of {', '.join(HEADER)}"
        )
        require(all(isinstance(word, str) for word in header["about"].values()), "what it says about the network is not text")
    except (ValueError, RecursionError, zlib.error) as error:
        raise Unreadable(f"{path} has a header that cannot be read: {error}") from error
    return header, memoryview(data)[end:-CHECK]


@contextlib.contextmanager
def held_to_its_header(path: Path) -> Iterator[None]:
    """Whatever is wrong with what the header says of the file becomes :class:`Unreadable`, with the file's name."""
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise Unreadable(f"{path} does not hold what its header says, or is of another version of this library: {error}") from error


def outlined(header: dict) -> nn.Module:
    """The architecture without memory for its parameters.  Raises ValueError for one that is too large."""
    require(header["model"] in FAMILIES, f"there is no architecture {header['model']!r}")
    network, config = FAMILIES[header["model"]]
    check_layers(header["config"])
    with torch.device("meta"):
        model = unfilled(network(config(**{name: as_tuples(value) for name, value in header["config"].items()})))
    count = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    require(count <= MOST_PARAMETERS, f"it has {count:,} parameters, more than {MOST_PARAMETERS:,}")
    return model


def check_layers(config: dict) -> None:
    """Raise ValueError for more layers than a network may have: each takes time, even where it takes no memory."""

    def counts(value) -> list[int]:
        return [inner for part in value for inner in counts(part)] if isinstance(value, list) else [value]

    layers = [max(len(counts(value)) for value in config.values())] if config else []
    layers += [sum(counts(config[name])) for name in ("depth", "blocks") if name in config]
    require(all(number <= MOST_LAYERS for number in layers), f"it has {max(layers, default=0):,} layers, more than {MOST_LAYERS:,}")


def built(header: dict) -> nn.Module:
    """The architecture, with zeros for parameters."""
    model = outlined(header).to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


def as_tuples(value):
    return tuple(as_tuples(part) for part in value) if isinstance(value, list) else value


def described(how: list, tensor: Tensor) -> tuple[Positions, Values]:
    """How a tensor was written.  Raises ValueError or TypeError for what :func:`packed` would not have written of its size."""
    parts = len(fields(Positions))
    places, values = Positions(*how[:parts]), Values(*how[parts:])
    numbers = (places.count, places.parameter, places.unary, values.bits, values.entries, values.sections, values.counter, *values.grid)
    require(all(type(number) is int and number >= 0 for number in numbers), "a size is not a whole number from 0")
    require(
        places.group in GROUPS
        and type(places.rare) is bool
        and places.count <= tensor.numel()
        and places.parameter < 32
        and places.bytes <= bits.packed_bytes(tensor.numel(), 1) + 1,
        "its positions do not fit the tensor",
    )
    require(
        tuple(values.grid) in GRIDS
        and values.bits in FORMS[values.form]
        and values.counter <= WIDEST
        and values.entries <= tensor.numel()
        and values.sections <= tensor.numel(),
        "its codebooks do not fit the tensor",
    )
    return places, replace(values, grid=tuple(values.grid))


def occupied(places: Positions, tensor: Tensor) -> int:
    """Values that the tensor has there, without reading where they are."""
    axes = [size for axis, size in enumerate(tensor.shape) if axis in GROUPS[places.group]]
    group = int(np.prod(axes)) if axes else 1
    return group * (places.count if places.rare else tensor.numel() // group - places.count)


def read_tensor(tensor: Tensor, how: list | int, body: memoryview) -> memoryview:
    """Fill ``tensor`` from the front of ``body``; returns the rest."""
    if not how:
        return body
    places, values = described(how, tensor)
    mask = read_positions(body[: places.bytes], places, tuple(tensor.shape))
    rest = body[places.bytes :]
    section = section_of(tuple(tensor.shape), values.grid)[mask]
    spent = value_bytes(values, len(section))
    require(len(rest) >= spent, "values are missing")
    array = tensor.detach().numpy()
    array[mask] = read_values(rest[:spent], values, section)
    return rest[spent:]
