"""Names of results: none changes by accident, and no two Specs share one."""

import dataclasses
import json
from collections import defaultdict

import pytest

import golden_keys
from conftest import ROOT
from lib.runs.results import check_spec, read_result
from lib.runs.spec import Spec


@pytest.fixture(scope="module")
def studies():
    return golden_keys.all_studies()


@pytest.fixture(scope="module")
def specs(studies):
    """Every Spec that a chapter asks for at some scale with its default parameters."""
    return {spec for named in studies.values() for spec in named}


def test_no_name_changed(studies):
    golden, found = json.loads(golden_keys.FILE.read_text()), golden_keys.digests(studies)
    changed = [name for name in golden if found.get(name) != golden[name]]
    assert not changed, "stored results of these studies are not found any more; if that is meant: python tests/golden_keys.py"
    assert not set(found) - set(golden), "the names of these studies are not on the list yet: python tests/golden_keys.py adds them"


def test_no_two_specs_share_a_name(specs):
    assert len({spec.key for spec in specs}) == len(specs)


def parts(value, outer):
    """(class, field, class of what it holds) for everything that is nested in a Spec."""
    if isinstance(value, tuple):
        for item in value:
            yield from parts(item, outer)
    elif dataclasses.is_dataclass(value):
        yield (*outer, type(value))
        for field in dataclasses.fields(value):
            yield from parts(getattr(value, field.name), (type(value), field.name))


def test_nested_types_have_names_of_their_own(specs):
    """What is nested in a Spec stands in its address by its bare class name."""
    fields, classes = defaultdict(set), defaultdict(set)
    for spec in specs:
        for outer, name, inner in parts(spec, (None, None)):
            if outer:
                fields[outer, name].add(inner)
                classes[inner.__name__].add(inner)
    for place, held in fields.items():
        assert len({inner.__name__ for inner in held}) == len(held), f"{place} holds two classes of one name"
    shared = {name for name, found in classes.items() if len(found) > 1}
    assert shared == {"TicketRun"}, "give the new one another name; these two, of pruning and of tickets, share no field"


def every(cls):
    for below in cls.__subclasses__():
        yield below
        yield from every(below)


def test_each_kind_of_run_has_a_name_of_its_own(specs):
    """A class's name is all that a reader of an error, a log or an address sees of it."""
    modules = defaultdict(set)
    for cls in every(Spec):
        if cls.__module__.startswith("lib."):
            modules[cls.__name__].add(cls.__module__)
    assert len(modules) >= len({type(spec).__name__ for spec in specs})
    twice = {name: found for name, found in modules.items() if len(found) > 1}
    assert set(twice) == {"TicketRun"}, f"rename what is not nested in another Spec: {twice}"  # it is nested, in addresses


def test_every_committed_result_is_intact_and_of_its_spec(specs):
    found = {path.stem: read_result(path, "reference") for path in (ROOT / "data" / "results").glob("*/*.json")}
    asked = {spec.key: spec for spec in specs}
    for key in found.keys() & asked.keys():
        check_spec(found[key], asked[key], ROOT)
    assert len(found.keys() & asked.keys()) >= 0.9 * len(found) > 0
