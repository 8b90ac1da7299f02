"""Optimal Brain Surgeon for one linear layer: remove a weight, and let the others make up for it.

LeCun et al. 1990 (OBD) keep the diagonal of the Hessian; Hassibi and Stork 1993 (OBS) its whole inverse.  For the squared
error of a layer's outputs, Σ ‖W x - Ŵ x‖², the Hessian of each row of W is H = Σ x xᵀ (up to a factor of 2 that cancels),
the same for all rows (Frantar et al. 2022, arXiv 2208.11580).  SparseGPT and GPTQ remove, or round, one column after the
other by the same two formulas:

    error of removing w_q        w_q² / [H⁻¹]_qq
    change of all weights       -w_q / [H⁻¹]_qq · H⁻¹[q, :]
"""

from __future__ import annotations

import torch
from torch import Tensor


def without(row_I: Tensor, inverse_II: Tensor, q: int) -> tuple[Tensor, float]:
    """The row with weight ``q`` removed and the others corrected, and how much the squared error grew (OBS, eq. 5).

    inverse_II: H⁻¹ of the features that are still there; rows and columns of those that went are zero.
    """
    change_I = -row_I[q] / inverse_II[q, q] * inverse_II[q]
    changed_I = row_I + change_I
    changed_I[q] = 0.0  # exactly
    return changed_I, float(row_I[q] ** 2 / inverse_II[q, q])


def forget(inverse_II: Tensor, q: int) -> Tensor:
    """H⁻¹ without feature ``q``, by one step of Gaussian elimination (GPTQ, eq. 3)."""
    smaller = inverse_II - torch.outer(inverse_II[:, q], inverse_II[q]) / inverse_II[q, q]
    smaller[q], smaller[:, q] = 0.0, 0.0
    return smaller


def damped(gram_II: Tensor, damping: float = 0.01) -> tuple[Tensor, Tensor]:
    """H + damping · mean(diag H) · I, and which features never occurred, bool [I].

    Features that were always zero get 1 on the diagonal, so that H can be inverted: their weights do not matter.
    """
    dead_I = gram_II.diagonal() == 0
    hessian_II = gram_II.clone()
    hessian_II.diagonal()[dead_I] = 1.0
    hessian_II.diagonal().add_(damping * hessian_II.diagonal().mean())
    return hessian_II, dead_I


def cholesky_of_inverse(hessian_II: Tensor) -> Tensor:
    """Return the upper triangular U with Uᵀ U = H⁻¹.

    Row q of U, from q on, is H⁻¹[q, q:] / √[H⁻¹]_qq for the H of the features from q on (GPTQ, arXiv 2210.17323, step
    3 of section 4): all that removing features one after the other needs, without :func:`forget` for each of them.
    Raises torch.linalg.LinAlgError for a Hessian that is not positive: damp it more.
    """
    inverse_II = torch.cholesky_inverse(torch.linalg.cholesky(hessian_II))
    return torch.linalg.cholesky(inverse_II, upper=True)
