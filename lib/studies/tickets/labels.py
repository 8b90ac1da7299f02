"""What runs of structured tickets and of TinyBERT are called in tables and figures, read off their Specs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib.runs.results import Result

PRUNING = {"structured": "S-pruning", "magnitude": "M-pruning"}

TICKETS = {
    "early": "early ticket",
    "settled": "settled ticket",
    "late": "late ticket",
    "random": "random ticket",
    "whole": "whole network, as briefly",
}


def label(result: Result) -> str | None:
    """The name of a run of structured tickets or of TinyBERT, None for any other; tasks and seeds are not part of it."""
    spec = result.spec
    if result.experiment == "tickets-plays-search":
        return PRUNING[spec["how"]] + cut(spec)
    if result.experiment == "tickets-plays-retrain":
        untrained = "" if spec["weights"] == "pretrained" else ", not pre-trained"
        return f"{PRUNING[spec['search']['how']]}, {spec['choice']}{cut(spec['search'])}{untrained}"
    if result.experiment == "tickets-early":
        return TICKETS[spec["draw"]]
    if result.experiment == "tickets-ebert":
        return gated(spec["parent"], spec["how"])
    if result.experiment == "tickets-ebert-joint":
        return gated(spec, "dynamic")
    if result.experiment == "distillation-tinybert":
        return tinybert(spec)
    return None


def cut(search: dict) -> str:
    return "" if search["to"] is None else f", cut to {search['to']:.0%}"


def gated(joint: dict, how: str) -> str:
    if how == "important":
        return "static, by importance"
    if how == "static":
        return "static, learnt" if joint["kind"] == "constant" else "static, the dynamic one's usual gates"
    name = "dynamic" if joint["kind"] == "input" else "constant gates"
    return name if joint["per_layer"] else f"{name}, no layer terms"


def tinybert(spec: Mapping[str, Any]) -> str:
    """TinyBERT, or what was left out of it."""
    first = spec["first"]
    if spec["lesson"] == "labels":
        return "labels alone" if first is None else "pre-trained by itself, labels"
    said = ["TinyBERT"]
    if first is None:
        said.append("no general stage")
    if spec["lesson"] == "answers":
        said.append("answers only")
    if not spec["copies"]:
        said.append("no replaced words")
    if spec["map"] != "uniform":
        said.append(f"{spec['map']} layers")
    return ", ".join(said)
