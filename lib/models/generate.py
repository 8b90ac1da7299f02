"""Telling a story: one token after another, each from what the model makes of those before it."""

from __future__ import annotations

import torch
from torch import Tensor

from lib.models.gpt import GPT, LayerCache
from lib.system.checks import require


@torch.no_grad()
def generate(
    model: GPT, prompt_BN: Tensor, tokens: int, *, temperature: float = 1.0, top_k: int | None = None, seed: int = 0, end: int | None = None
) -> Tensor:
    """``prompt_BN`` (int64, N ≥ 1) followed by up to ``tokens`` sampled ones, [B, ≤ N + tokens].

    Each layer's keys and values are kept, so that a token costs one token's work and not the whole text's.
    ``temperature`` 0 takes the likeliest token.  ``top_k``: only among so many.  After ``end`` only ``end`` follows, and
    when every row has ended it stops.  The model is used as it is, in evaluation mode, and keeps its mode.

    Raises ValueError for an empty prompt, a text longer than the context, and a negative temperature.
    """
    require(prompt_BN.shape[1] >= 1, "the prompt is empty: begin with the end-of-story token")
    require(temperature >= 0, f"temperature is {temperature}: it must not be negative")
    length = prompt_BN.shape[1] + tokens
    require(length <= model.config.context, f"{length} tokens do not fit the context of {model.config.context}: ask for fewer")
    generator = torch.Generator(prompt_BN.device).manual_seed(seed)
    caches = [LayerCache() for _ in model.blocks]
    text_BN, new_BN, mode = prompt_BN, prompt_BN, model.training
    model.eval()
    for _ in range(tokens):
        logits_BV = model.with_routing(new_BN, caches)[0][:, -1].float()
        new_BN = sample(logits_BV, temperature, top_k, generator)
        if end is not None:
            new_BN = torch.where(ended(text_BN, prompt_BN.shape[1], end), end, new_BN)
        text_BN = torch.cat([text_BN, new_BN], dim=1)
        if end is not None and bool((new_BN == end).all()):
            break
    model.train(mode)
    return text_BN


def sample(logits_BV: Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> Tensor:
    """One token per row, [B, 1]."""
    if temperature == 0:
        return logits_BV.argmax(-1, keepdim=True)
    if top_k is not None:
        least_B1 = logits_BV.topk(min(top_k, logits_BV.shape[-1]), dim=-1).values[:, -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < least_B1, -torch.inf)
    return torch.multinomial((logits_BV / temperature).softmax(-1), 1, generator=generator)


def ended(text_BN: Tensor, prompt: int, end: int) -> Tensor:
    """Rows whose own text, after the prompt, is over: bool [B, 1]."""
    return (text_BN[:, prompt:] == end).any(1, keepdim=True)
