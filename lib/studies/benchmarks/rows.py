"""What is said of each network of the benchmarks chapter, and its answers to the test images, one by one.

Every network is judged as it would be shipped: written to a file, with 16 bits for each number that has no code, and read
back.  So sizes are those of files, and accuracies those of what is in them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from lib.data.images import ImageSet, Split, normalise
from lib.measure import cost as measure
from lib.models.layers import Attention
from lib.pruning.mask import layers
from lib.quantization import packed
from lib.quantization.fold import baked, fold, halved
from lib.studies.base.answers import written
from lib.system.precision import autocast

#: Images per forward pass of an evaluation.
CHUNK = 500


def row(
    model: nn.Module,
    images: ImageSet,
    precision: str,
    folder: Path,
    *,
    bits: int = 16,
    runs_as: Callable[[nn.Module], nn.Module] = lambda read: read,
) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics and arrays of a finished network; the one look at the test images.

    Metrics: ``val_accuracy``, ``test_accuracy``, ``parameters`` (numbers that are held), ``nonzero`` (of them that are not
    zero), ``active_parameters`` (that one image passes), ``flops`` of one image as it runs, ``flops_nonzero`` without the
    products with a zero weight, ``file_bytes``.
    Arrays: ``correct``, for each test image whether it was right, see :func:`correct_of`.

    folder: where the file is written.  bits: of a number without a code, 16 or 32.  runs_as: what answers, given the network
    that was read back, such as one with integer products; FLOPs are those of the network itself.
    """
    model, size = shipped(model, images, folder, bits)
    model = model.to(images.test.images.device).eval()
    answering = runs_as(model)
    right = correct(answering, images.test, images, precision)
    # As on a CPU, whatever the device: there no row is computed that only fills a batched product up.
    plain, image = copy.deepcopy(model).cpu(), normalise(images.test.images[:1], images).cpu()
    ran, without = measure.flops(plain, image), zero_flops(plain, image)
    metrics = {
        "val_accuracy": correct(answering, images.validation, images, precision).double().mean().item(),
        "test_accuracy": right.double().mean().item(),
        "parameters": measure.parameters(model),
        "nonzero": sum(int(p.count_nonzero()) for p in model.parameters()),
        "active_parameters": measure.active_parameters(model),
        "flops": ran,
        "flops_nonzero": ran - without,
        "file_bytes": size,
    }
    return metrics, {"correct": written(right)}


def shipped(model: nn.Module, images: ImageSet, folder: Path, bits: int = 16) -> tuple[nn.Module, int]:
    """The network as it is read back from its file, and the file's bytes.

    The packed format of the pruning chapter where it knows the architecture, else safetensors in 16 bits; that also for a network whose
    training diverged, since there is nothing to pack.  Safetensors keep names and batch norm's averages: a fifth of the
    smallest networks' files, and next to nothing of larger ones'.  bits: of a number without a code; 32 only where it packs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = baked(copy.deepcopy(model).cpu().eval())
    if packed.packable(plain) and all(parameter.isfinite().all() for parameter in plain.parameters()):
        path = folder / "shipped.packed"
        folded = fold(plain, images.shape)
        packed.write(halved(folded) if bits == 16 else folded, path)
        return packed.read(path), path.stat().st_size
    path = folder / "shipped.safetensors"
    save_model(plain.half(), str(path))
    back = copy.deepcopy(plain)
    load_model(back, str(path))
    return back.float(), path.stat().st_size


@torch.no_grad()
def correct(model: nn.Module, split: Split, images: ImageSet, precision: str) -> Tensor:
    """For each image of the split whether the network's class is right, bool [N] on the CPU."""
    model.eval()
    found = []
    for inputs, labels in zip(split.images.split(CHUNK), split.labels.split(CHUNK)):
        with autocast(inputs.device, precision):
            found.append((model(normalise(inputs, images)).argmax(-1) == labels).cpu())
    return torch.cat(found)


@torch.no_grad()
def zero_flops(model: nn.Module, image: Tensor) -> float:
    """FLOPs of one image [1, C, H, W] that go into products with weights that are zero: what sparse hardware could save.

    A transformer's attention uses its layers' weights itself, for every token once.
    """
    spent = 0.0
    hooks = []

    def count(module: nn.Module, zeros: int) -> None:
        def hook(module, inputs, output) -> None:
            nonlocal spent
            places = output[0, 0].numel() if isinstance(module, nn.Conv2d) else output.numel() / output.shape[-1]
            spent += 2 * zeros * places

        hooks.append(module.register_forward_hook(hook))

    own = {name: int((layer.weight == 0).sum()) for name, layer in layers(model).items()}
    for name, module in model.named_modules():
        if isinstance(module, Attention):
            count(module, own.pop(f"{name}.qkv") + own.pop(f"{name}.out"))
    for name, zeros in own.items():
        count(model.get_submodule(name), zeros)
    model.eval()(image)
    for hook in hooks:
        hook.remove()
    return spent
