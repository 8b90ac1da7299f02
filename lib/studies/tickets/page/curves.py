"""The frames and grids that the tickets chapter's figures draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
import torch

from lib.models.encoder import Classifier, Encoder, EncoderConfig
from lib.runs.results import Result
from lib.studies.tickets.counted import measure, tested
from lib.studies.tickets.labels import label
from lib.studies.tickets.names import TASKS, method, origin
from lib.studies.tickets.page.rows import of_texts, task_of
from lib.studies.tickets.values import agreement
from lib.tickets import early, ebert, importance, lth, masks, search
from lib.tickets.patterns import KINDS

#: By layer, the shares of heads and of neurons that are left.
Left = list[tuple[list[float], list[float]]]


def removed_parts() -> dict[str, Left]:
    """Return what each method leaves of a small untrained encoder, by layer."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        encoder = Encoder(EncoderConfig(vocabulary=30, context=12, width=24, depth=3, heads=4, hidden=12))
        model = Classifier(encoder, classes=2, pad=0).eval()
        texts, truth = torch.randint(1, 30, (64, 12)), torch.randint(0, 2, (64,))
        every = masks.whole(encoder.config)
        weights = {name: mask.float() for name, mask in lth.smallest_removed(encoder, 0.5).items()}
        good = search.without_least(every, importance.importance(model, texts, truth, every), heads=4, ffns=1)
        drawn = early.draw(torch.rand(3, 4), torch.rand(3, 12))
        with torch.no_grad():
            _, opened = ebert.Dynamic(model).eval().with_gates(texts[:2])
    by_head = [
        torch.stack(
            [weights[f"blocks.{i}.attention.{m}"].view(4, 6, 24).mean((1, 2)) for m in "qkv"]
            + [weights[f"blocks.{i}.attention.out"].view(24, 4, 6).mean((0, 2))]
        )
        .mean(0)
        .tolist()
        for i in range(3)
    ]
    by_neuron = [((weights[f"blocks.{i}.ffn.up"].mean(1) + weights[f"blocks.{i}.ffn.down"].mean(0)) / 2).tolist() for i in range(3)]
    by_text = {
        f"EBERT, text {i + 1}": parts(torch.stack([h[i] for h in opened.heads]), torch.stack([n[i] for n in opened.neurons]))
        for i in range(2)
    }
    return {
        "whole": parts(torch.ones(3, 4), torch.ones(3, 12)),
        "LTH": list(zip(by_head, by_neuron)),
        "Prasanna et al.": parts(good.heads, good.ffns[:, None].expand(3, 12)),
        "EarlyBERT": parts(drawn.heads, drawn.neurons),
        **by_text,
    }


def parts(heads: torch.Tensor, neurons: torch.Tensor) -> Left:
    """Return masks [layers, heads] and [layers, neurons] by layer."""
    return list(zip(torch.as_tensor(heads).float().tolist(), torch.as_tensor(neurons).float().tolist()))


def pretraining(run: Result) -> pd.DataFrame:
    """Return the ``share`` that is right ``at`` each step of hidden words, and of pairs of texts."""
    scores = {"hidden words": "val_accuracy", "does it follow?": "val_next_accuracy"}
    return pd.DataFrame(
        [
            {"method": name, "at": run.spec["steps"] * (epoch + 1), "share": value}
            for name, curve in scores.items()
            for epoch, value in enumerate(run.curves[curve])
        ]
    )


def by_sparsity(results: Iterable[Result], called: Callable[[Result], str] = method) -> pd.DataFrame:
    """Return the test ``score`` of each round of tickets by ``sparsity``, the whole network's first."""
    return pd.DataFrame(
        [
            {"method": called(r), "seed": r.fields["seed"], "sparsity": sparsity, "score": value}
            for r in results
            for sparsity, value in zip(r.curves["sparsity"], r.curves[f"test_{measure(r.spec['task'])}"])
        ]
    )


def named_task(result: Result) -> str:
    """Return a run's own task in words."""
    return TASKS[result.spec["task"]]


def by_task(results: Iterable[Result]) -> pd.DataFrame:
    """Return the test ``score`` of each run by ``task``."""
    return pd.DataFrame([{"task": named_task(r), "method": method(r), "score": tested(r)} for r in results])


def transfers(tickets: Iterable[Result], transferred: Iterable[Result]) -> dict[tuple[str, str], list[float]]:
    """Return test scores by where the masks come from and by task."""
    cells: dict[tuple[str, str], list[float]] = {}
    for r in [*of_texts(tickets), *transferred]:
        cells.setdefault((origin(r), r.spec["task"]), []).append(tested(r))
    return cells


def transfer_grid(cells: dict[tuple[str, str], list[float]], level: dict[str, float], sources: Sequence[str]) -> list[list[float]]:
    """Return by source and task the mean score minus that of the whole network, in points."""
    return [[100 * (np.mean(cells[row, task]) - level[task]) if (row, task) in cells else np.nan for task in level] for row in sources]


def masking(runs: Iterable[Result]) -> pd.DataFrame:
    """Return the validation ``score`` after each step of masking by the ``share`` of the weights that is left."""
    return pd.DataFrame(
        [
            {"method": label(r), "share": share, "score": score, "step": f"step {place}, {stage}"}
            for r in runs
            for place, (share, score, stage) in enumerate(zip(r.arrays["shares"], r.arrays["scores"], r.arrays["stages"]))
        ]
    )


def harsh(results: Iterable[Result]) -> pd.DataFrame:
    """Return the test ``score``, mean over tasks, by ``choice`` and by the weights that are ``kept``, measured and asked for."""
    rows = [
        {
            "choice": r.spec["choice"],
            "kept": f"{r.metrics['share']:.0%} ({r.spec['search']['to']:.0%})",
            "seed": r.fields["seed"],
            "score": tested(r),
        }
        for r in results
    ]
    return pd.DataFrame(rows).groupby(["choice", "kept", "seed"], sort=False, as_index=False)["score"].mean()


def agreements(runs: Iterable[Result]) -> tuple[list[list[float]], list[str]]:
    """Return the mean agreement of good heads by pair of tasks, NaN without a pair of runs, and the tasks."""
    by_task: dict[str, list[Result]] = {}
    for r in runs:
        by_task.setdefault(task_of(r), []).append(r)

    def mean(first: str, second: str) -> float:
        found = [
            agreement(a.arrays["heads"], b.arrays["heads"])
            for i, a in enumerate(by_task[first])
            for j, b in enumerate(by_task[second])
            if first != second or i < j
        ]
        kept = [value for value in found if value is not None]
        return float(np.mean(kept)) if kept else np.nan

    return [[mean(a, b) for b in by_task] for a in by_task], list(by_task)


def attended(runs: Iterable[Result]) -> pd.DataFrame:
    """Return the ``share`` of their attention that ``heads`` which survive, and those that are masked, give to each kind of token."""
    rows = []
    for r in runs:
        heads, patterns = np.asarray(r.arrays["heads"], dtype=bool), np.asarray(r.arrays["patterns"])
        for group in ("survive", "masked"):
            found = patterns[heads == (group == "survive")].mean(0)
            rows += [{"attention to": kind, "share": value, "heads": group} for kind, value in zip(KINDS, found)]
    return pd.DataFrame(rows)


def distances(birds: Iterable[Result]) -> pd.DataFrame:
    """Return the Hamming ``distance`` of heads' and neurons' masks at each check, ``x`` in epochs, on the first task."""
    birds = list(birds)
    return pd.DataFrame(
        [
            {"method": name, "x": epoch, "distance": value, "seed": r.fields["seed"]}
            for r in birds
            if task_of(r) == task_of(birds[0])
            for name in ("heads", "neurons")
            for epoch, value in zip(r.arrays["check_epoch"], r.arrays[f"distance_{name}"])
            if value is not None
        ]
    )


def gated(results: Iterable[Result]) -> pd.DataFrame:
    """Return a row per gated or static network: test ``score`` and ``flops``."""
    return pd.DataFrame(
        [
            {
                "method": label(r),
                "flops": r.metrics["flops"],
                "score": tested(r),
                "run": f"{task_of(r)}, target {r.spec['parent']['target']:g}, seed {r.fields['seed']}",
            }
            for r in results
        ]
    )


def census(run: Result) -> pd.DataFrame:
    """Return the ``share`` of each ``layer``'s gates that are open for every input, for none, or for some."""
    return pd.DataFrame(
        [
            {"gates": what, "layer": f"{kind} {layer + 1}", "share": share}
            for kind in ("heads", "neurons")
            for what in ("always on", "always off", "input-dependent")
            for layer, share in enumerate(run.arrays[f"{kind}_{what.replace(' ', '_').replace('-', '_')}"])
        ]
    )


def open_gates(runs: Iterable[Result]) -> pd.DataFrame:
    """Return the ``share`` of each ``layer``'s gates that are open, with and without the loss's terms by layer."""
    return pd.DataFrame(
        [
            {
                "method": "with the terms" if r.spec["parent"]["per_layer"] else "without the terms",
                "layer": f"{kind} {layer + 1}",
                "share": share,
            }
            for r in runs
            for kind in ("heads", "neurons")
            for layer, share in enumerate(r.arrays[f"{kind}_open"])
        ]
    )
