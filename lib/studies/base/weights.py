"""A trained network, from the weights that a run left."""

from __future__ import annotations

from typing import TypeVar

from safetensors.torch import load_model
from torch import nn

from lib.runs.spec import Spec
from lib.runs.store import Session

Network = TypeVar("Network", bound=nn.Module)


def loaded(spec: Spec, model: Network, session: Session) -> Network:
    """Return ``model`` with the weights that running ``spec`` left, on the session's device, in evaluation mode.

    The Spec is run first where its weights are not on this machine.
    """
    load_model(model, str(session.weights(spec)))
    return model.to(session.device).eval()
