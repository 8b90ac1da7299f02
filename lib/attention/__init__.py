"""Attention without its matrix (the attention chapter): FlashAttention by Dao et al., arXiv 2205.14135.

Queries are [B, H, N, d], keys and values [B, H', L, d]; with fewer of these heads each serves H / H' query heads.
"""
