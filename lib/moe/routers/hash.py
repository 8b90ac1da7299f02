"""Hash layers (Roller et al., arXiv 2106.04426): a fixed table says which expert a token goes to, gate 1.

In text the table is indexed by the word.  An image token has no word; here its *id* is its position in
the image (``hash_by="position"``), or the nearest of V k-means centroids of training patches
(``hash_by="patch"``), which is the closest image counterpart of a vocabulary.

The table is the paper's *balanced* hash: greedily, the most frequent id goes to the emptiest expert.
With equally frequent ids, in random order, that is a balanced random table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lib.moe.router import Router
from lib.moe.routing import Routing, routing
from lib.system.checks import one_of, require

if TYPE_CHECKING:
    from lib.moe.layer import MoEConfig

BY = ("position", "patch")


class Hash(Router):
    """Expert = table[id]: no parameters, no losses, the same in training and evaluation."""

    uses = frozenset({"hash_by", "codes"})
    label, colour, symbol = "Hash", "#708900", "cross"

    table_V: Tensor

    def __init__(self, vocabulary: int, experts: int):
        super().__init__(experts)
        self.register_buffer("table_V", balanced_table(torch.ones(vocabulary, device="cpu"), experts))

    @classmethod
    def check(cls, config: MoEConfig) -> None:
        one_of("hash_by", config.hash_by, BY)

    @classmethod
    def of(cls, config: MoEConfig, d_model: int, tokens: int | None) -> Hash:
        vocabulary = tokens if config.hash_by == "position" else config.codes + 1  # + 1: tokens that are no patch
        require(vocabulary, "router 'hash' by position needs the number of tokens of an image")
        require(
            vocabulary >= config.routed,
            f"router 'hash' has {vocabulary} ids for {config.routed} experts: some would never be used; "
            "use fewer experts, smaller patches, or hash_by='patch' with more codes",
        )
        return cls(vocabulary, config.routed)

    def forward(self, x_BND: Tensor, experts: nn.Module, id_BN: Tensor | None = None) -> tuple[Tensor, Routing]:
        B, N, _ = x_BND.shape
        if id_BN is None:
            id_BN = torch.arange(N, device=x_BND.device).expand(B, N)
        expert_TK = self.table_V[id_BN].reshape(-1, 1)
        gate_TK = torch.ones_like(expert_TK, dtype=torch.float32)
        y_TD = experts(x_BND.flatten(0, 1), expert_TK, gate_TK)
        return y_TD.view(x_BND.shape), routing(expert_TK, gate_TK, self.experts)


def balanced_table(frequency_V: Tensor, experts: int) -> Tensor:
    """Expert of each id [V]: most frequent first, each to the expert with the least traffic so far.

    Ids of equal frequency are taken in random order (``torch.manual_seed`` decides), so that layers
    get different tables.
    """
    shuffled_V = torch.randperm(len(frequency_V), device="cpu")
    order_V = shuffled_V[frequency_V[shuffled_V].argsort(descending=True, stable=True)]
    table_V = torch.empty(len(frequency_V), dtype=torch.int64, device="cpu")
    traffic_E = [0.0] * experts
    for token in order_V.tolist():
        emptiest = min(range(experts), key=traffic_E.__getitem__)
        table_V[token] = emptiest
        traffic_E[emptiest] += float(frequency_V[token])
    return table_V


class PatchCodes(nn.Module):
    """The id of a patch: the index of its nearest centroid.  Patches are flattened pixels [B, N, P]."""

    centroid_VP: Tensor

    def __init__(self, codes: int, pixels: int):
        super().__init__()
        self.register_buffer("centroid_VP", torch.zeros(codes, pixels))
        self.fitted = False

    def forward(self, patches_BNP: Tensor) -> Tensor:
        self.fitted = self.fitted or bool(self.centroid_VP.any())  # looked at once: it may have been loaded
        if not self.fitted:
            raise RuntimeError(
                "the patch codes are not fitted yet: call lib.moe.routers.hash.fit_patch_codes(model, images) with training images first"
            )
        return torch.cdist(patches_BNP, self.centroid_VP.to(patches_BNP.dtype)).argmin(-1)


def fit_patch_codes(model: nn.Module, images: Tensor, *, seed: int = 0) -> None:
    """Fit a model's patch codes by k-means, and balance its layers' tables by how frequent each code is.

    ``images`` [B, C, H, W] are normalised as in training; a thousand are plenty.
    """
    from sklearn.cluster import MiniBatchKMeans

    codes, V = model.codes, len(model.codes.centroid_VP)
    pixels_MP = model.patches(images).flatten(0, 1).float().cpu().numpy()
    means = MiniBatchKMeans(V, random_state=seed, n_init=1, batch_size=4096).fit(pixels_MP)
    codes.centroid_VP.copy_(torch.from_numpy(means.cluster_centers_))
    frequency_V = torch.bincount(torch.from_numpy(means.labels_).long(), minlength=V).float()
    for layer in model.modules():
        if isinstance(layer, Hash):
            layer.table_V[:V] = balanced_table(frequency_V, layer.experts).to(layer.table_V.device)
