"""Distilling a language model: whose texts the student reads, and which divergence from the teacher it pays for.

Word-level distillation compares the two networks' next tokens on given texts (Kim and Rush 2016, arXiv 1606.07947, section 3.1),
sequence-level distillation trains on texts that the teacher wrote (section 3.2).  Generalised knowledge distillation (GKD; Agarwal et
al. 2024, arXiv 2306.13649) compares them on texts that the student wrote itself, by either divergence.  MiniLLM (Gu et al. 2024, arXiv
2306.08543) minimises the reverse divergence there, by policy gradients; here no gradient passes through the drawing, as in GKD.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.models.generate import generate
from lib.models.gpt import GPT
from lib.system.checks import one_of, require
from lib.training.losses import Loss

#: Who writes what a student reads behind each prompt: people, the teacher, or the student as it is at that step.
AUTHORS = ("data", "teacher", "student")

#: What a student pays for: cross-entropy with the text, KL(teacher ‖ student), or KL(student ‖ teacher), at each token.
TARGETS = ("text", "forward", "reverse")


def divergence(of_BNV: Tensor, from_BNV: Tensor) -> Tensor:
    """KL(P ‖ Q) in nats at each place, [B, N], of the distributions with these logits [B, N, V]: P's first."""
    p, q = of_BNV.log_softmax(-1), from_BNV.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def entropy(logits_BNV: Tensor) -> Tensor:
    """In nats at each place, [B, N], of the distributions with these logits [B, N, V]."""
    beliefs = logits_BNV.log_softmax(-1)
    return -(beliefs.exp() * beliefs).sum(-1)


def continued(author: GPT, prompt_BP: Tensor, tokens: int) -> Tensor:
    """Each prompt with ``tokens`` more that ``author`` draws at temperature 1, [B, P + tokens].

    The prompts themselves seed the draw, so that a resumed run draws what an undisturbed one does.
    """
    return generate(author, prompt_BP, tokens, seed=int(prompt_BP.sum()))


def text_loss(teacher: GPT, author: str, target: str, prompt: int) -> Loss:
    """A loss for :func:`lib.training.loop.fit` of a GPT, on windows of text: mean over the tokens behind the first ``prompt`` ones.

    ``author`` in :data:`AUTHORS`: "data" keeps the window; else the text behind the prompt is drawn anew at each step.  ``target`` in
    :data:`TARGETS`.  Puts the teacher into evaluation mode; it gets no gradient.  Logs ``entropy``, the student's in nats per token.

    Raises ValueError for names that are not known and a prompt that leaves no token.
    """
    one_of("author", author, AUTHORS)
    one_of("target", target, TARGETS)
    require(prompt >= 1, f"prompt is {prompt}: it must be at least 1 token")
    teacher.eval()

    def loss(model: GPT, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        require(prompt < inputs.shape[1], f"a prompt of {prompt} tokens leaves none of {inputs.shape[1]}")
        if author != "data":
            text_BN = continued(teacher if author == "teacher" else model, inputs[:, :prompt], inputs.shape[1] - prompt)
            # The last token has nothing behind it to be predicted.
            inputs, targets = text_BN[:, :-1], text_BN[:, 1:]
        seen_BNV = model(inputs)[:, prompt - 1 :].float()
        logged = {"entropy": entropy(seen_BNV.detach()).mean()}
        if target == "text":
            return F.cross_entropy(seen_BNV.flatten(0, 1), targets[:, prompt - 1 :].flatten()), logged
        with torch.no_grad():
            taught_BNV = teacher(inputs)[:, prompt - 1 :].float()
        pair = (taught_BNV, seen_BNV) if target == "forward" else (seen_BNV, taught_BNV)
        return divergence(*pair).mean(), logged

    return loss


@torch.no_grad()
def exposed(student: GPT, teacher: GPT, prompt_BP: Tensor, tokens: int) -> dict[str, float]:
    """How a student writes, by its teacher's standard, in nats per token over ``tokens`` tokens behind each prompt.

    ``reverse``         KL(student ‖ teacher) on the student's own texts: what its texts cost by the teacher, less their entropy
    ``teacher_nats``    the teacher's loss on the student's texts;  ``entropy``: the student's own
    ``error_own``       KL(teacher ‖ student) behind what the student wrote
    ``error_taught``    the same behind what the teacher wrote
    ``exposure``        by how much of the latter the former exceeds it: MiniLLM's excess accumulated error (section 3.3)
    """
    own_BN, taught_BN = (continued(author, prompt_BP, tokens) for author in (student, teacher))
    first = prompt_BP.shape[1] - 1

    def both(text_BN: Tensor) -> tuple[Tensor, Tensor]:
        return tuple(network(text_BN[:, :-1])[:, first:].float() for network in (student, teacher))

    (seen, judged), (seen_taught, judged_taught) = both(own_BN), both(taught_BN)
    error_own, error_taught = divergence(judged, seen).mean().item(), divergence(judged_taught, seen_taught).mean().item()
    return {
        "reverse": divergence(seen, judged).mean().item(),
        "teacher_nats": F.cross_entropy(judged.flatten(0, 1), own_BN[:, first + 1 :].flatten()).item(),
        "entropy": entropy(seen).mean().item(),
        "error_own": error_own,
        "error_taught": error_taught,
        "exposure": error_own / error_taught - 1 if error_taught else 0.0,
    }
