"""The growth chapter's tables and the frames that its figures draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch

from lib.measure.cost import parameters as count
from lib.measure.statistics import amount
from lib.models.gpt import GPT, PRESETS, GPTConfig
from lib.models.gpt_cost import training_flops
from lib.runs.results import Result, Results
from lib.studies.base.picked import column, joined
from lib.studies.growth.names import method
from lib.studies.growth.page import bits, budgets, named
from lib.studies.growth.paths import lineage, seconds, step_seconds
from lib.studies.growth.saving import is_sparse
from lib.studies.growth.studies import Plan

#: Told of a group of runs in words, such as :meth:`lib.studies.growth.page.Saved.told`.
Told = Callable[[Results], str]


def unbuilt(config: GPTConfig) -> GPT:
    """Return the network without memory for its weights."""
    with torch.device("meta"):
        return GPT(config)


def networks(plan: Plan) -> pd.DataFrame:
    """Return a row for each network of this run: shape, parameters, FLOPs of a training step."""
    rows = []
    for name, config in {
        "final": plan.size.final,
        "final, with experts": plan.sparse,
        "half as wide": plan.narrow,
        "half as deep": plan.shallow,
        "FFNs half as wide": plan.thin,
        "beginning of the pipeline": plan.seedling,
    }.items():
        model = unbuilt(config)
        rows.append(
            {
                "network": name,
                "width": config.width,
                "layers": config.depth,
                "heads": config.heads,
                "FFN": config.hidden,
                "experts": f"{config.moe.experts}, {config.moe.k} per token" if config.moe else "–",
                "parameters": amount(count(model)),
                "per token": amount(model.active_parameters()),
                "FLOPs per step": amount(training_flops(config, plan.size.recipe.batch_size * config.context)),
            }
        )
    return pd.DataFrame(rows)


def project_networks() -> pd.DataFrame:
    """Return a row for each of the project's networks at full size, counted from its shape."""
    rows = []
    for name, config in PRESETS.items():
        model = unbuilt(config)
        rows.append(
            {
                "phase": name,
                "layers × width": f"{config.depth} × {config.width}",
                "parameters": f"{count(model) / 1e6:,.0f} M",
                "per token": f"{model.active_parameters() / 1e6:,.0f} M",
                "active": f"{model.active_parameters() / count(model):.0%}",
                "weights, gradients, AdamW in fp32": f"{16 * count(model) / 2**30:.1f} GiB",
            }
        )
    return pd.DataFrame(rows)


def mixtures(results: Results, saved: Told) -> pd.DataFrame:
    """Return a row per way of upcycling: losses before, after and at the end, load, experts' distance, saving."""
    rows = []
    for name in dict.fromkeys(method(r) for r in results):
        runs = named(results, name)
        moe = [r for r in runs if is_sparse(r)]
        rows.append(
            {
                "growth": name,
                "bits per byte": bits(runs),
                "before": f"{np.mean(column(runs, 'loss_before')):.4f}",
                "after": f"{np.mean(column(runs, 'loss_after')):.4f}",
                "load": f"{np.mean(column(moe, 'probe_load_entropy')):.2f}" if moe else "–",
                "least share": f"{np.mean(column(moe, 'least_share')):.1%}" if moe else "–",
                "distance": f"{np.mean(column(moe, 'expert_distance')):.2f}" if moe else "–",
                "saving": saved(runs),
            }
        )
    return pd.DataFrame(rows)


def depths(deep: Results, dense: Results, saved: Told) -> pd.DataFrame:
    """Return a row per way of deepening, losses before, after and at the end, saving; the last is the network from scratch."""
    rows = [
        {
            "growth": name,
            "before": f"{np.mean(column(named(deep, name), 'loss_before')):.4f}",
            "after": f"{np.mean(column(named(deep, name), 'loss_after')):.4f}",
            "bits per byte": bits(named(deep, name)),
            "saving": saved(named(deep, name)),
        }
        for name in dict.fromkeys(method(r) for r in deep)
    ]
    return pd.DataFrame([*rows, {"growth": "from scratch", "before": "–", "after": "–", "bits per byte": bits(dense), "saving": "–"}])


def orders(grown: Results, *others: Results, saved: Told) -> pd.DataFrame:
    """Return a row per order of the pipeline's steps, and the networks from scratch beside them."""
    every = joined(grown, *others)
    return pd.DataFrame(
        [
            {"network": name, "bits per byte": bits(named(every, name)), "saving": saved(named(grown, name)) if "→" in name else "–"}
            for name in dict.fromkeys(method(r) for r in every)
        ]
    )


def step_names(plan: Plan) -> dict[str, str]:
    """Return the pipeline's steps in words."""
    return {
        "experts": f"experts ×{plan.size.experts}",
        "width": "width ×2",
        "depth": f"depth ×{plan.size.final.depth / plan.seedling.depth:.2g}",
    }


def transitions(main: Sequence[Result], pipeline: Results, order: Sequence[str], names: dict[str, str]) -> pd.DataFrame:
    """Return a column for each step of the pipeline, means over seeds: size, losses, identities, what the routers do."""
    lines, told = [lineage(r, pipeline) for r in main], {}
    for place, step in enumerate(order, start=1):
        runs = [line[place] for line in lines]

        def mean(metric: str, how: str = ".2g", runs: list[Result] = runs) -> str:
            values = column(runs, metric)
            return f"{np.mean(values):{how}}" if values else "–"

        told[names[step]] = {
            "parameters afterwards": amount(runs[0].metrics["parameters"]),
            "relative change of a logit": mean("relative"),
            "loss before": mean("loss_before", ".5f"),
            "loss after": mean("loss_after", ".5f"),
            "distance from the identities": mean("structure"),
            "router: deviation of logits": mean("router_logit_std"),
            "router: entropy of the load": mean("router_load_entropy"),
            "router: least share of an expert": mean("router_least_share", ".1%"),
            "router: ties": mean("router_ties"),
        }
    return pd.DataFrame(told).rename_axis("at the transition").reset_index()


def stories(main: Sequence[Result], pipeline: Results, order: Sequence[str], names: dict[str, str]) -> str:
    """Return a story that each phase of the first run wrote, with its loss, in Markdown."""
    told = []
    for place, phase in enumerate(lineage(main[0], pipeline)):
        title = "dense" if place == 0 else names[order[place - 1]]
        story = phase.arrays["stories"][0].replace("\n", " ").replace("*", "\\*").replace("<", "&lt;")
        told.append(f"**{title}** ({phase.metrics['test_bits_per_byte']:.2f} bits per byte)\n\n> {story}")
    return "\n\n".join(told)


def clock_rows(pace: Result, known: Results, finals: Results, grown: Results, dense: Result, plan: Plan) -> pd.DataFrame:
    """Return compute and time of some networks, sources included, over those of the dense one from scratch, and their losses."""
    clock, rows = step_seconds(pace), []
    base = seconds([dense], clock)
    for name in ("dense, from scratch", "experts, from scratch", "depth, stacked", "width, noise 0 dB", "experts"):
        run = next((r for r in finals if method(r) == name), None)
        if run is not None:
            rows.append((name, run))
    rows += [(method(r), r) for r in grown if r.fields["seed"] == dense.fields["seed"]]
    ended = [(method(r), r.metrics["test_bits_per_byte"]) for r in known if budgets(r, plan) == 1.0]
    return pd.DataFrame(
        [
            {
                "network": name,
                "compute": f"{run.metrics['total_flops'] / dense.metrics['total_flops']:.2f}×",
                "time": f"{seconds(lineage(run, known), clock) / base:.2f}×",
                "bits per byte": f"{np.mean([loss for other, loss in ended if other == name]):.3f}",
            }
            for name, run in rows
        ]
    )
