"""FLOPs of an encoder's layers when some heads and neurons are switched off, as EBERT counts them.

Per input of N tokens: a head of d features takes 2·N·D·d for each of q, k, v and the output, and 2·2·N²·d for scores and
sums; a neuron takes 2·2·N·D; a predictor takes 2·D·64 + 2·64·n once per input.  A multiply-add counts 2; biases, norms and
softmax are left out, and so are embeddings and the classifier's head (EBERT's released ``cutils.py``,
whose evaluation counts the heads' predictor once for every head; here it counts once).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lib.models.encoder import EncoderConfig

#: Width of a predictor's hidden layer.
PREDICTOR = 64


def head_flops(config: EncoderConfig, tokens: int) -> int:
    d = config.head_features
    return 8 * tokens * config.width * d + 4 * tokens * tokens * d


def neuron_flops(config: EncoderConfig, tokens: int) -> int:
    return 4 * tokens * config.width


def predictor_flops(config: EncoderConfig) -> int:
    """All predictors of all layers together."""
    return sum(2 * PREDICTOR * (2 * config.width + heads + hidden) for heads, hidden in zip(config.heads_by_layer, config.hidden_by_layer))


def whole_flops(config: EncoderConfig, tokens: int) -> int:
    of_heads = sum(config.heads_by_layer) * head_flops(config, tokens)
    return of_heads + sum(config.hidden_by_layer) * neuron_flops(config, tokens)


def flops_share(heads: Sequence[Tensor], neurons: Sequence[Tensor], config: EncoderConfig, tokens: int, predicted: bool) -> Tensor:
    """FLOPs of an average input as a share of the whole encoder's; differentiable with respect to the gates.

    heads, neurons: per layer [B or 1, n], 1 where open.  predicted: whether predictors decide, whose FLOPs then count too.
    """
    kept = sum(gate.sum(1).mean() for gate in heads) * head_flops(config, tokens)
    kept = kept + sum(gate.sum(1).mean() for gate in neurons) * neuron_flops(config, tokens)
    return (kept + (predictor_flops(config) if predicted else 0)) / whole_flops(config, tokens)
