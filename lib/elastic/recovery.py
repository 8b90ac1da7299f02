"""Training a cut-out network a little more: all of it, or only what decides where tokens go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from lib.moe.gate import Gate
from lib.system.checks import one_of, require

WHAT = ("nothing", "routers", "everything")


@contextmanager
def recovering(model: nn.Module, what: str) -> Iterator[None]:
    """Within this context only the named part of the model requires gradients; :func:`lib.training.loop.fit` trains just that.

    Raises ValueError for an unknown part, and for the routers of a network without any.
    """
    one_of("what", what, WHAT)
    routers = {p for module in model.modules() if isinstance(module, Gate) for p in module.parameters()}
    require(routers or what != "routers", "this network has no routers to train")
    before = {p: p.requires_grad for p in model.parameters()}
    try:
        for p in before:
            p.requires_grad_(what == "everything" or what == "routers" and p in routers)
        yield
    finally:
        for p, required in before.items():
            p.requires_grad_(required)
