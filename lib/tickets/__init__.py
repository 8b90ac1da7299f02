"""Lottery tickets in transformers: which weights, heads and neurons of a pre-trained encoder are needed, and when it shows.

``lth``         iterative magnitude pruning from pre-trained weights, its controls and its transfer (LTH for BERT)
``masks``       sub-networks of equal size: good, random and bad ones; how much they overlap
``importance``  what a head or an FFN does for the loss: gradients of masks (When BERT Plays the Lottery)
``search``      masking step by step as long as 90 % of the score is kept: of whole parts, of single weights
``patterns``    what heads attend to
``early``       coefficients on heads and neurons, and tickets drawn early in training (EarlyBERT)
``ebert``       predictors that choose heads and neurons for each input (EBERT)
``flops`` ``static`` ``skipping``   what that costs, static masks of the same cost, and leaving out what is closed
"""
