"""Sentences of the mixtures page where runs are missing."""

from types import SimpleNamespace

from lib.runs.results import Results
from lib.studies.moe import page


def run(key, router=None, parameters=1000):
    fields = {"moe.router": router, "seed": 0, "recipe.epochs": 4, "widening": 1}
    return SimpleNamespace(key=key, fields=fields, spec={}, metrics={"parameters": parameters})


def test_two_networks_are_told_apart_only_where_both_were_run():
    dense, sparse = Results((run("dense"),)), Results((run("sparse", "switch"),))
    assert page.two_networks(sparse, dense) == page.two_networks(dense, sparse) == page.two_networks(dense, Results(())) == ""
    assert page.two_networks(dense, dense) == ""  # one network in both
