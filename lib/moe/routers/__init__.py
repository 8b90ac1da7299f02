"""Routers, a file per paper: each decides which expert a token goes to."""

from __future__ import annotations

from lib.moe.router import Router
from lib.moe.routers.adamix import AdaMix
from lib.moe.routers.bias import BiasBalanced
from lib.moe.routers.expert_choice import ExpertChoice
from lib.moe.routers.hash import Hash
from lib.moe.routers.partition import RandomPartition
from lib.moe.routers.soft import SoftMoE
from lib.moe.routers.thor import Thor
from lib.moe.routers.token_choice import NoisyTokenChoice, TokenChoice
from lib.moe.routers.whole_network import WholeNetwork

#: Every router by the name that :class:`lib.moe.layer.MoEConfig` knows it by.
ROUTERS: dict[str, type[Router]] = {
    "switch": TokenChoice,
    "vmoe": NoisyTokenChoice,
    "bias": BiasBalanced,
    "expert-choice": ExpertChoice,
    "soft": SoftMoE,
    "hash": Hash,
    "thor": Thor,
    "adamix": AdaMix,
    "partition": RandomPartition,
    "whole-network": WholeNetwork,
}
