"""Model growth: turning a trained transformer into a larger one that starts from what the small one knows.

Everything rests on one table, ``layout``: which size each dimension of each parameter follows, and on which side of its
product it stands (``layout_vit``: of a vision transformer; ``networks`` chooses).  What happens to weights, to AdamW's
moments and to learning rates follows from it.  A growth operator (``growth``) is a small frozen dataclass that maps a
configuration, named tensors and moments: ``width`` (HyperCloning, LEMON), ``net2net``, ``depth`` (LLaMA-Pro, G_stack,
interposition) and ``upcycle`` (Sparse Upcycling, virtual groups, Drop-Upcycling; of a GPT only).  ``moments`` and ``rates``
let training go on where it was; ``verify`` compares two GPTs before and after, by what they compute and by what their
tensors must satisfy; ``faults`` are ways in which growth of a GPT goes wrong.
"""
