"""Quantization and honest sizes: few values per layer, and a file that holds a pruned and quantized network.

``codebook`` (each weight is one of a few trained values) and ``train`` (after pruning, or while pruning goes on);
``fold`` (batch norm as one scale and one shift per channel, and which of them still matter), then the file:
``bits`` (numbers of any width), ``positions`` (where the weights are), ``values`` (what they are), ``packed`` (both, in one
checked file), ``entropy`` (how small positions could be, and the ratios as they are claimed and as they are).
``catalogue`` lists and evaluates the files that come with the book; ``torchao_baseline`` is an established library's
int8 and int4.

Networks that are trained already: ``grid`` (round to nearest, in groups), ``gptq`` (round, and let later columns make up for
it), ``awq`` and ``smoothquant`` (scales that move between activations and weights, by ``rescale``), ``rotation``, and
``activations`` (rounded too).  :mod:`lib.models.calibration` gathers what they need to know of the data.
"""
