"""What a run of the pruning chapter is called in tables and figures, read off its Spec."""

from __future__ import annotations

import pandas as pd

from lib.runs.results import Result, Results

#: Our own recipe for high ratios.
OURS = "ours"

#: Trainers as their papers write them.
TRAINERS = {
    "gradual": "gradual",
    "rigl": "RigL",
    "granet": "GraNet",
    "acdc": "AC/DC",
    "str": "STR-like",
    "probmask": "ProbMask",
    "safe": "SAFE",
}

SCORES = {
    "magnitude": "magnitude",
    "random": "random",
    "lamp": "LAMP",
    "snip": "SNIP",
    "grasp": "GraSP",
    "taylor": "Taylor",
    "synflow": "SynFlow",
}

#: Share of the steps for which networks are warmed up as a matter of course, where they are.
USUAL_WARMUP = 0.1

#: What happens to the survivors after a cut.
RETRAININGS = {"rewind": "ticket", "lr-rewind": "rate rewound", "finetune": "fine-tuned"}

#: What tickets are compared with.
CONTROLS = {"reinitialised": "re-initialised", "shuffled": "shuffled mask", "random": "random mask"}

#: Forms of coarse tickets.
FORMS = {
    "refill": "refilled",
    "refill_plus": "refilled, more",
    "regroup": "regrouped",
    "channels": "channels directly",
    "unstructured": "unstructured",
}


def method(result: Result) -> str:
    """The method of a run; densities, levels and seeds are not part of a name."""
    return KINDS[result.experiment](result.spec) if result.experiment in KINDS else result.experiment


def dense(spec: dict) -> str:
    return "dense" + warmup(spec)


def warmup(spec: dict) -> str:
    return ", warm-up" if warmed(spec) else ""


def warmed(spec: dict) -> bool:
    """Return whether a dense run has the long warm-up that tickets may need, and not only a usual one."""
    return spec["recipe"]["warmup"] > USUAL_WARMUP


def initial(spec: dict) -> str:
    return SCORES[spec["score"]] + (", official weights" if spec.get("start", "ours") == "official" else "")


def sparse(spec: dict) -> str:
    """A run with a rest, masks that stay and a learning rate begun anew, is our recipe."""
    name, shape = OURS if spec["rest"] else TRAINERS[spec["method"]], spec["plan"]["structure"]
    return name if shape == "unstructured" else f"{name}, {shape}"


def ticket(spec: dict) -> str:
    name = RETRAININGS[spec["retraining"]]
    if spec["retraining"] == "rewind":
        name += f", step {spec['rewind']}"
    if not spec["amount"]:
        name = f"unpruned, {name}"
    name += "" if spec["iterative"] else ", one cut"
    name += "" if spec["scope"] == "global" else ", layer-wise"
    return name + warmup(spec["parent"])


def control(spec: dict) -> str:
    return CONTROLS[spec["control"]] + ticket(spec["parent"]).removeprefix("ticket")


def barrier(spec: dict) -> str:
    """Level 0 is the dense network, set back to the same step."""
    name = ticket(spec["parent"])
    return name if spec["level"] else "dense" + name.removeprefix("ticket")


def coarse(spec: dict) -> str:
    return FORMS[spec["form"]]


def cocktail(spec: dict) -> str:
    name = "with dense steps" if spec["pivot"] else "without dense steps"
    if spec.get("equal", "sparse steps") == "updates":
        name += ", equal updates"
    return name if spec["distil"] else f"{name}, without distillation"


def quantized(spec: dict) -> str:
    books = "one codebook a layer" if tuple(spec["grid"]) == (1, 1) else "64 codebooks a layer"
    return f"{spec['bits']} bits, {books}" + ("" if spec["density"] is None else ", pruned in the same training")


def packed(spec: dict) -> str:
    """Named after what is in the file."""
    parent = spec["parent"]
    name = quantized(parent) if "grid" in parent else sparse(parent) if "plan" in parent else dense(parent)
    return name if spec["norm_bits"] is None else f"{name}, {spec['norm_bits']} bits for norms"


def torchao(spec: dict) -> str:
    return f"torchao, {spec['bits']} bits"


#: Experiment → how its runs are called.
KINDS = {
    "pruning-dense": dense,
    "pruning-initial": initial,
    "pruning-sparse": sparse,
    "pruning-tickets": ticket,
    "pruning-controls": control,
    "pruning-barrier": barrier,
    "pruning-coarsen": coarse,
    "pruning-cocktail": cocktail,
    "pruning-meta": lambda spec: "MetaPruning",
    "pruning-quantized": quantized,
    "pruning-packed": packed,
    "pruning-torchao": torchao,
}


def frame(results: Results, name=method) -> pd.DataFrame:
    """``results.frame()`` with what ``name`` says in the column ``method``, in place of a Spec's field of that name."""
    table = results.frame().drop(columns="method", errors="ignore")
    table.insert(0, "method", [name(result) for result in results])
    return table
