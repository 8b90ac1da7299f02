"""Keeping experts evenly used: the auxiliary losses of four papers, and the rule that needs no loss.

All losses are means over tokens, so their size does not depend on the batch, and all of them are exact
under data parallelism: what a loss needs to know of the whole batch is averaged over the processes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lib.moe.routing import count
from lib.system import distributed


def switch_loss(probs_TE: Tensor, expert_TK: Tensor, alpha: float) -> Tensor:
    """L = α · E · Σ_i f_i P_i   (Switch, arXiv 2101.03961, eq. 4-6).

    f_i is the fraction of assignments the router gave to expert i, before any was dropped (its gradient
    is zero almost everywhere), P_i the mean of p_i over tokens.  L = α when either is uniform.  The
    converse does not hold: α · 1.017 is possible with two of eight experts in use, so watch
    :mod:`lib.moe.diagnostics` and not this number.

    Dividing f by the T·K assignments, not by the T tokens, keeps L independent of k (our choice; the
    paper has k = 1).
    """
    E = probs_TE.shape[-1]
    f_E = over_processes(count(expert_TK, E) / expert_TK.numel())
    P_E = probs_TE.mean(0)
    return alpha * E * (f_E.to(P_E.dtype) * P_E).sum()


def importance_loss(probs_TE: Tensor) -> Tensor:
    """L = CV²(importance), importance_i = Σ_t p_ti   (V-MoE, arXiv 2106.05974, app. A)."""
    return squared_variation(over_processes(probs_TE.mean(0)))


def load_loss(logits_TE: Tensor, noisy_TE: Tensor, k: int, sigma: float) -> Tensor:
    """L = CV²(load), load_i = mean_t (1 - Φ((τ_t - z_ti) / σ))   (V-MoE, arXiv 2106.05974, app. A).

    τ_t is the k-th largest noisy logit of token t: ``load_i`` is the probability that expert i would
    be chosen if only its own noise N(0, σ²) were drawn again, a smooth stand-in for its load.
    """
    threshold_T1 = noisy_TE.topk(k, dim=-1).values[:, -1:]
    chosen_TE = normal_cdf((logits_TE - threshold_T1) / sigma)  # 1 - Φ(a) = Φ(-a)
    return squared_variation(over_processes(chosen_TE.mean(0)))


def z_loss(logits_TE: Tensor) -> Tensor:
    """L = mean_t (log Σ_i exp z_ti)²   (ST-MoE, arXiv 2202.08906): keeps logits small; its weight there is 1e-3."""
    return logits_TE.logsumexp(-1).square().mean()


def bias_step(load_E: Tensor, rate: float, on_E: Tensor | None = None) -> Tensor:
    """Change of the selection bias after a batch: u · sign(mean load - load_i), then centred.

    ``on_E`` (bool): the experts that could be chosen, None: all; the others have no load and keep their bias.

    Loss-free balancing (arXiv 2408.15664, alg. 1).  Subtracting the mean (torchtitan's addition) leaves
    every choice as it is and keeps the biases from drifting together.
    """
    load_E = over_processes(load_E)
    on_E = torch.ones_like(load_E) if on_E is None else on_E.to(load_E.dtype)
    step_E = rate * torch.sign(load_E.sum() / on_E.sum() - load_E) * on_E
    return step_E - on_E * (step_E.sum() / on_E.sum())


def squared_variation(x_E: Tensor) -> Tensor:
    """Squared coefficient of variation, (standard deviation / mean)²."""
    return x_E.var(unbiased=False) / x_E.mean().square()


def normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def over_processes(x: Tensor) -> Tensor:
    """Mean of ``x`` over the data-parallel processes, with the gradient of this process's share.

    The value is the global mean and d/dx is 1, so averaging gradients over the processes, as training
    does, gives the gradient of the loss of the whole batch even where the loss is not linear.
    """
    if not distributed.is_running():
        return x
    mean = x.detach().clone()
    distributed.average([mean])
    return x + (mean - x.detach())
