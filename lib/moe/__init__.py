"""Mixtures of experts: how tokens are routed, what the experts compute, how a mixture becomes one FFN again.

Read a router next to its paper; each has its own file and needs none of the others:

===================  =========================================================================
``token_choice``     each token takes its top k experts (Switch, V-MoE)
``bias``             the same, balanced by a bias instead of a loss (DeepSeek)
``expert_choice``    each expert takes its top tokens
``soft``             every expert sees weighted means of the tokens
``hash``             a fixed table
``thor``             one random expert per layer, two passes that must agree
``adamix``           random pairs of up- and down-projections
``partition``        tokens dealt out at random, experts pulled together after each step (EWA)
``whole_network``    one random expert index for all layers
===================  =========================================================================

Around them: ``gate`` (the router's linear layer), ``capacity`` (who is dropped), ``balance`` (losses and
the bias rule), ``routing`` (what a router reports), ``average`` (one expert, or the mean of all, for every
token), ``layer`` (the MoE layer and its configuration), ``losses`` (for training), ``diagnostics``, ``merge``
and ``sparse_to_dense``.  What experts compute is in ``experts``, the ways to compute it in ``backends`` (and
``expert_…``), their cost in ``roofline`` and, measured, in ``backend_cost``.
"""
