"""Data-parallel training under ``torchrun``: each process trains on its share of every global batch.

Gradients are averaged by hand after ``backward`` instead of through ``DistributedDataParallel``, whose
wrapper sees only ``forward``: here a loss may call any method of the model, and use any part of it.
Without ``torchrun`` there is one process and every function is a cheap no-op.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


def setup() -> None:
    """Join the other processes if ``torchrun`` started several; take the GPU that belongs to this one.

    Raises RuntimeError when there are more processes than GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or is_running():
        return
    if torch.cuda.is_available():
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise RuntimeError(
                f"torchrun started process {local} of this machine, which has {gpus} GPUs: use --nproc-per-node {gpus} or fewer"
            )
        torch.cuda.set_device(local)
        dist.init_process_group("cpu:gloo,cuda:nccl")
    else:
        dist.init_process_group("gloo")


def shutdown() -> None:
    """Leave the group; a program that called :func:`setup` calls this last."""
    if is_running():
        dist.destroy_process_group()


def is_running() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    return dist.get_rank() if is_running() else 0


def world_size() -> int:
    return dist.get_world_size() if is_running() else 1


def is_main() -> bool:
    """Whether this is the process that writes files and prints."""
    return rank() == 0


def barrier() -> None:
    """Wait for all processes."""
    if is_running():
        dist.barrier()


def broadcast(value: T) -> T:
    """The main process's ``value`` (anything picklable) in every process."""
    if not is_running():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def check_batch_size(size: int) -> None:
    """Raise ValueError when a global batch of ``size`` cannot be cut into equal shares."""
    if size % world_size():
        raise ValueError(
            f"a batch of {size} cannot be shared equally by {world_size()} processes: "
            f"use a batch size that is a multiple of {world_size()}, and drop a smaller last batch"
        )


def shard(batch: Tensor) -> Tensor:
    """This process's rows of a global batch.  Raises ValueError when they do not divide evenly."""
    if not is_running():
        return batch
    check_batch_size(len(batch))
    return batch.chunk(world_size())[rank()]


@torch.no_grad()
def broadcast_model(model: nn.Module) -> None:
    """Give every process the main process's parameters and buffers."""
    if is_running():
        for tensor in [*model.parameters(), *model.buffers()]:
            whole = tensor.detach().contiguous()
            dist.broadcast(whole, src=0)
            tensor.copy_(whole)


@torch.no_grad()
def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over the processes, in one exchange per data type."""
    tensors = list(tensors)
    if not is_running():
        return
    for dtype in {tensor.dtype: None for tensor in tensors}:
        same = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.reshape(-1) for tensor in same])
        dist.all_reduce(flat)
        flat /= world_size()
        for tensor, part in zip(same, flat.split([tensor.numel() for tensor in same])):
            tensor.copy_(part.view(tensor.shape))


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes.

    With equal shares and losses that are means, that is the gradient of the global batch.  A parameter
    that some process did not use counts as zero there; one that none used keeps no gradient, as in a
    single process.
    """
    if not is_running():
        return
    parameters = [p for p in parameters if p.requires_grad]
    used = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
    unused_here = [i for i, p in enumerate(parameters) if p.grad is None]
    for i in unused_here:
        parameters[i].grad = torch.zeros_like(parameters[i])
    average([*(p.grad for p in parameters if p.grad is not None), used])
    if unused_here:  # reading the flags makes the device wait, so only where they matter
        flags = used.tolist()
        for i in unused_here:
            if flags[i] == 0:
                parameters[i].grad = None
