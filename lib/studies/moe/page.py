"""The mixtures chapter's rows and labels: what its tables and figures call the runs, and the frames that they show."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from lib.measure.statistics import amount, number, paired_differences, percent, points
from lib.moe.layer import MoEConfig
from lib.runs.results import Result, Results
from lib.studies.moe import claims
from lib.studies.moe.names import epoch_seconds, frame, method, with_experts

#: Metrics as the chapter's tables call them.
WORDS = {
    "test_accuracy": "test accuracy",
    "active_parameters": "active parameters",
    "flops_per_image": "FLOPs per image",
    "load_entropy": "load entropy",
    "max_load": "largest load",
    "dead_experts": "unused experts",
    "choices_changed_by_precision": "changed choices",
    "first": "validation accuracy after one epoch",
    "val_accuracy": "as evaluated",
    "val_accuracy_merged_uniform": "merged uniformly",
    "val_accuracy_merged_usage": "merged by usage",
    "val_accuracy_first_expert": "first expert",
    "moe.backend": "executor",
    "parameters_moe": "parameters",
    "train_ratio": "training step",
    "test_ratio": "inference",
}

#: The project's table as quoted, and what its logs have: mean over four shards, best epoch; 196 steps of the median length.
QUOTED = pd.DataFrame(
    [
        ("dense, as quoted", "12.8 M", "81.36 %", "31", "11.8", "4.6"),
        ("32 experts, as quoted", "239 M", "79.04 %", "33", "68.86", "4.98"),
        ("64 experts, as quoted", "465 M", "78.8 %", "49", "130.52", "5.18"),
        ("dense, from the logs", "12.8 M", "80.36 %", "34", "11.8", "–"),
        ("32 experts, from the logs", "239 M", "78.41 %", "45", "68.7", "–"),
        ("64 experts, from the logs", "465 M", "77.74 %", "71", "127.7", "–"),
    ],
    columns=["model", "parameters", "accuracy", "epoch ≥ 75 %", "s per 50,000 trained", "s per 10,000 tested"],
)


#: Parameters of the project's dense model.
PROJECT_PARAMETERS = 12_798_490


def called(result: Result) -> str:
    """Return the method with its number of experts, of the dense model with its epochs or with how wide its layers are."""
    name, fields = with_experts(result), result.fields
    own = {"dense": f"dense, {fields['recipe.epochs']} epochs", "dense, wide": f"dense, FFN {fields.get('widening')} times as wide"}
    return own.get(name, name)


def balanced(result: Result) -> str:
    """Return the router and what evens out its load."""
    fields = result.fields
    if fields["moe.router"] == "switch" and fields["moe.balance"] == 0:
        return "switch, no balance loss"
    return "switch, with z-loss" if fields["moe.z_loss"] else fields["moe.router"]


def policy(result: Result) -> str:
    """Return which tokens a full expert serves, in words."""
    words = {"arrival": "in order of arrival", "random": "random order", "priority": "surest first", "second-choice": "second choice"}
    return words.get(result.fields["moe.policy"], "dropless")


def places_left(result: Result) -> str:
    """Return the policy and the capacity factor."""
    told = policy(result)
    return "switch, " + (told if told == "dropless" else f"{told}, {result.fields['moe.capacity_factor']:g}")


def variant(result: Result) -> str:
    """Return the router's precision, jitter or initial scale."""
    fields = result.fields
    if fields["recipe.precision"] == "bf16":
        return f"switch, router in {fields['moe.router_precision']}, the rest in bf16"
    if fields["moe.jitter"]:
        return "switch, fp32, input jitter 0.01"
    return f"switch, fp32, initial scale {fields['moe.router_init']:g}"


def random_method(result: Result) -> str:
    """Return the method among those that draw their experts."""
    name = method(result)
    return {"partition": "partition, never averaged in training"}.get(name, name.replace("one pass no", "one pass, no"))


def shape(result: Result) -> str:
    """Return how many experts a token has, how they are cut, which are shared, and which layers have any."""
    fields = result.fields
    words = [f"top-{fields['moe.k']}"]
    if fields["moe.split"] > 1:
        words.append(f"each expert cut in {fields['moe.split']}")
    if fields["moe.shared"]:
        words.append(f"{fields['moe.shared']} shared")
    words.append({"all": "every layer", "every-second": "every second layer", "last-two": "last two of those"}[fields["moe.placement"]])
    return "switch, " + ", ".join(words)


def taught(result: Result) -> str:
    """Return the method, of the dense model with its epochs."""
    return called(result) if method(result) == "dense" else method(result)


def with_or_without_loss(result: Result) -> str:
    """Return whether the balance loss is on."""
    return "switch" if result.fields["moe.balance"] else "switch, no balance loss"


def training_tflops(result: Result) -> float:
    """Return a run's training compute in TFLOPs: a backward pass costs as much as two forward passes."""
    images = result.fields["recipe.epochs"] * result.provenance["data"]["train"]
    return 3 * images * result.metrics["flops_per_image"] / 1e12


def accuracy_rows(results: Results) -> pd.DataFrame:
    """Return a row per run of the main comparison, with ``tflops`` of its training."""
    return frame(results, called).assign(tflops=[training_tflops(r) for r in results])


def dense_rows(results: Results) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of the dense model, and of the one trained for longer, by seed."""
    rows = frame(results).sort_values("seed")
    plain = rows[rows.method == "dense"]
    first = plain["recipe.epochs"] == plain["recipe.epochs"].min()
    return plain[first], plain[~first]


def dense_and_largest(results: Results) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the rows of the dense model, of the one trained for longer, and of the Switch mixtures with the most experts, by seed."""
    rows = frame(results).sort_values("seed")
    sparse = rows[rows.method == "switch"]
    return *dense_rows(results), sparse[sparse["moe.experts"] == sparse["moe.experts"].max()]


def controls_told(results: Results) -> str:
    """Return what the dense model reaches when it is trained for longer and when its layers are wider; "" for neither."""
    rows = frame(results)
    _, longer = dense_rows(results)
    wide = rows[rows.method == "dense, wide"]
    told = [f"trained for twice as many epochs it reaches {percent(longer.test_accuracy)}"] if len(longer) else []
    if len(wide):
        told.append(f"with feed-forward layers {wide.widening.iloc[0]} times as wide {percent(wide.test_accuracy)}")
    return f"Of the dense controls, {' and '.join(told)}." if told else ""


def controls_gain(results: Results) -> str:
    """Return what the dense controls change against the dense model, seeds in pairs, as the end of a sentence; "" for neither."""
    usual, longer, wide = claims.dense(results), claims.longest_dense(results), claims.called(results, "dense, wide")
    told = []
    if longer.found != usual.found and in_pairs(longer, usual):
        told.append(f"twice the epochs change that of the dense one by {points(claims.difference(longer, usual))}")
    if in_pairs(wide, usual):
        told.append(f"feed-forward layers {wide[0].fields['widening']} times as wide by {points(claims.difference(wide, usual))}")
    return f"; {' and '.join(told)}" if told else ""


def in_pairs(*runs: Results) -> bool:
    """Return whether some seed has a run in each."""
    return bool(set.intersection(*({r.fields["seed"] for r in each} for each in runs)))


def two_networks(results: Results, smaller: Results) -> str:
    """Return which network the later sections compare details on; "" where it is that of the main comparison, or one was not run."""
    main, small = (next((r for r in runs if method(r) == "dense"), None) for runs in (results, smaller))
    if main is None or small is None or main.key in {r.key for r in smaller}:
        return ""
    usual, longer = dense_rows(smaller)
    more = f", and {percent(longer.test_accuracy)} after twice as many" if len(longer) else ""
    return f"""**Two networks.** What follows compares details in many more runs, each of a smaller network that was trained for a shorter
    time: dense it has {amount(small.metrics["parameters"])} parameters where that of the main comparison has
    {amount(main.metrics["parameters"])}, it sees {small.provenance["data"]["train"]:,} images
    {small.fields["recipe.epochs"]} times, and it reaches {percent(usual.test_accuracy)}{more}. It is still learning: differences of a
    point or two may turn with more training, and the claims say where that matters."""


def beside_project(results: Results) -> str:
    """Return how our dense model and its size compare with the project's; "" for other images."""
    dense, _ = dense_rows(results)
    if set(dense.dataset) != {"cifar10"}:
        return ""
    reached = dense.epoch_at_threshold.astype(float)
    epoch = "never reaches 75 %" if reached.isna().any() else f"has 75 % in epoch {reached.median():.0f}"
    parameters = dense.parameters.iloc[0]
    return f"""Our dense model has {PROJECT_PARAMETERS / parameters:.0f} times fewer parameters than the project's, {epoch} and ends at
    {percent(dense.test_accuracy)} after {dense["recipe.epochs"].iloc[0]} epochs; the project's best of 350 epochs is 81.36 %."""


def named_ends(rows: pd.DataFrame) -> tuple[str, str]:
    """Return the names of the Switch mixture with the most experts and of the dense model with the fewest epochs; "" for none."""
    numbered = {name: [int(word) for word in name.split() if word.isdigit()] for name in set(rows.method)}
    switch = [name for name in numbered if name.startswith("switch")]
    dense = [name for name in numbered if name.startswith("dense") and name.endswith("epochs")]
    return tuple(pick(names, key=numbered.get, default="") for pick, names in ((max, switch), (min, dense)))


def pace_told(results: Results, pace: Results) -> str:
    """Return what the mixture's epochs take in time beside the dense model's; "" where the pace was not measured.

    Seconds of separate runs on a busy machine are off by more than methods differ: so it is epochs, times the dense model's
    median epoch, times the ratio of steps that was measured with both taking turns in one process.
    """
    if not len(results) or not len(pace):
        return ""
    ratios = pace.frame().groupby("moe.experts").train_ratio.median()
    epoch = float(np.median([epoch_seconds(r) for r in results if method(r) == "dense"]))
    most = max((r.fields["moe.experts"] for r in results if method(r) == "switch"), default=None)
    if most not in ratios:
        return ""
    epochs = min(r.fields["recipe.epochs"] for r in results)
    return f"""Measured in time, {epochs} epochs with {most} Switch experts take {epochs * epoch * ratios[most]:.0f} seconds,
        as long as {epochs * ratios[most]:.1f} epochs of the dense model, whose step takes {1 / ratios[most]:.0%} of theirs."""


def capacity_rows(results: Results) -> pd.DataFrame:
    """Return a row per run with the tokens ``dropped`` in the last epoch and the ``capacity factor`` in words."""
    rows = frame(results, policy)
    factors = [("none" if m == "dropless" else f"{factor:g}") for m, factor in zip(rows.method, rows["moe.capacity_factor"])]
    return rows.assign(dropped=[r.curves["dropped"][-1] for r in results]).assign(**{"capacity factor": factors})


def places_missing(results: Results) -> pd.DataFrame:
    """Return a row per policy of networks that trained with all places: test accuracy with some, by capacity factor."""
    rows = []
    for policy, words in {"arrival": "in order of arrival", "priority": "surest first"}.items():
        row = {f"factor {f:g}": percent([r.metrics[f"test_accuracy_{policy}_{f:g}"] for r in results]) for f in results[0].spec["factors"]}
        rows.append({"who is served first": words} | row)
    return pd.DataFrame(rows).assign(**{"all places": percent([r.metrics["test_accuracy_dropless"] for r in results])})


def precision_rows(*studies: Results) -> pd.DataFrame:
    """Return a row per run with its validation accuracy after the ``first`` epoch."""
    rows = pd.concat([frame(part, variant) for part in studies if len(part)])
    return rows.assign(first=[r.curves["val_accuracy"][0] for part in studies for r in part])


def sixteen_bits_told(precise: Results, started: Results) -> str:
    """Return what training in bf16 changed, the router in fp32, against the same network in fp32; "" where one was not run."""
    half, whole = (
        precise.where(moe__router_precision="fp32"),
        started.where(moe__router_init=MoEConfig().router_init, moe__jitter=0),
    )
    if not len(half) or not len(whole):
        return ""
    return f"""Training in bf16, with the router in fp32, changed test accuracy by
    {points(paired_differences(half, whole, "test_accuracy"))} and test loss by {number(paired_differences(half, whole, "test_loss"))}
    against training in fp32, the seeds in pairs."""


def router_rows(results: Results) -> pd.DataFrame:
    """Return a row per run; routers that decide nothing have no load."""
    rows = frame(results, with_experts)
    return rows.assign(**{name: rows[name].astype(float) if name in rows else math.nan for name in ("load_entropy", "max_load")})


def one_thing_changed(routers: Results, gates: Results) -> pd.DataFrame:
    """Return a row per run: routers with another table or another gate, after those that they differ from in that alone."""
    own = ("hash", "switch", "bias")
    pairs = [r for name in own for r in (*routers, *gates) if r.fields.get("moe.router") == name]
    return router_rows(Results(tuple({r.key: r for r in pairs}.values())))


def mixtures(*studies: Results) -> Results:
    """Return the runs with a router, each once."""
    return Results(tuple({r.key: r for part in studies for r in part if r.fields.get("moe.router")}.values()))


def distinct_places(results: Results) -> Results:
    """Return the runs without those of "last two" where, at this depth, these are all of every second layer."""
    usual = [r for r in results if r.fields["moe.placement"] == "every-second" and r.fields["moe.k"] == 1]
    return Results(
        tuple(
            r
            for r in results
            if r.fields["moe.placement"] != "last-two" or not usual or r.metrics["parameters"] != usual[0].metrics["parameters"]
        )
    )


def layer_counts(results: Results) -> pd.DataFrame:
    """Return a row per backend and number of experts: counts relative to the dense network's, measured time and its spread."""
    rows = results.frame()
    spread = [f"{low:.2f} to {high:.2f}" for low, high in zip(rows.ratio_p05, rows.ratio_p95)]
    rows = rows.assign(FLOPs=rows.flops / rows.dense_flops, bytes=rows.bytes / rows.dense_bytes, spread=spread)
    rows = rows[["experts", "backend", "largest_load", "FLOPs", "bytes", "ratio", "spread"]]
    return rows.rename(columns={"largest_load": "largest load", "ratio": "measured time", "spread": "5 to 95 % of rounds"})


def project_rows(results: Results) -> pd.DataFrame:
    """Return a row per run that the project's table has a counterpart of; an epoch never reached is later than any."""
    rows = frame(results, called)
    rows["train_seconds_per_50k"] = [50_000 * epoch_seconds(r) / r.provenance["data"]["train"] for r in results]
    rows = rows[rows.method.str.startswith(("dense", "switch", "ewa", "whole"))]
    return rows.assign(epoch_at_threshold=rows["epoch_at_threshold"].astype(float).fillna(math.inf))
