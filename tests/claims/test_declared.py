"""Values that ``data/claims.yml`` declares: each shape, and what is said of an entry that cannot be meant."""

from dataclasses import dataclass

import pytest
import yaml

from lib.claims import declared
from lib.claims.entries import claims
from lib.measure.statistics import NotTestable
from lib.runs.results import Missing, Result, Results
from lib.runs.spec import Spec
from lib.studies.moe.claims import called


@dataclass(frozen=True, kw_only=True)
class Toy(Spec):
    experiment = "toy"
    name: str = "plain"
    rate: float = 0.0


def run(seed, name="plain", rate=0.0, curves=None, arrays=None, **metrics):
    spec = Toy(seed=seed, name=name, rate=rate)
    return Result(spec.experiment, spec.key, {"seed": seed, "name": name, "rate": rate}, metrics, curves or {}, arrays or {}, {})


def simple(text, studies=("s", "t")):
    return declared.read(yaml.safe_load(text), studies)


def values(text, **studies):
    return simple(text, tuple(studies)).values(
        {name: found if isinstance(found, Results) else Results(tuple(found)) for name, found in studies.items()},
        called=lambda result: result.spec["name"],
    )


def close(*numbers):
    return pytest.approx(list(numbers))


PLAIN = [run(0, test_accuracy=0.5, other=0.1), run(1, test_accuracy=0.7, other=0.2)]
GOOD = [run(1, "good", test_accuracy=0.8, other=0.6), run(0, "good", test_accuracy=0.9, other=0.5)]


def test_a_number_of_some_runs():
    assert values("{of: {run: good}}", s=PLAIN + GOOD) == close(0.8, 0.9)
    assert values("{of: {run: good, metric: other}}", s=PLAIN + GOOD) == close(0.6, 0.5)
    assert values("{of: {run: good, metric: [test_accuracy, other]}}", s=PLAIN + GOOD) == close(0.7, 0.7)
    assert values("{of: {study: t}}", s=GOOD, t=PLAIN) == close(0.5, 0.7)
    assert values("{of: {}}", s=[]) == []


def test_a_place_of_a_curve_or_an_array():
    runs = [run(seed, curves={"loss": [3.0, 2.0, 1.0 + seed]}, arrays={"by_exit": [0.1, 0.2]}) for seed in (0, 1)]
    assert values('{of: {metric: "loss[0]"}}', s=runs) == close(3, 3)
    assert values('{of: {metric: "loss[-1]"}}', s=runs) == close(1, 2)
    assert values('{of: {metric: "by_exit[1]"}}', s=runs) == close(0.2, 0.2)


def test_a_difference_is_paired_by_seed():
    assert values("{of: {run: good}, minus: {run: plain}}", s=PLAIN + GOOD) == close(0.1, 0.4)
    assert values("{of: {run: good}, minus: {run: plain}}", s=PLAIN + GOOD[:1]) == close(0.1)
    with pytest.raises(NotTestable, match="no two runs of the same seed"):
        values("{of: {run: good}, minus: {run: plain}}", s=PLAIN[:1] + GOOD[:1])


def test_a_part_below_is_paired_by_seed():
    assert values("{of: {run: plain}, below: {run: good}}", s=PLAIN + GOOD) == close(4 / 9, 1 / 8)
    assert values("{of: {run: good, metric: other}, below: {metric: test_accuracy}}", s=GOOD) == close(1 / 4, 4 / 9)
    with pytest.raises(NotTestable, match="no two runs of the same seed"):
        values("{of: {run: good}, below: {run: plain}}", s=GOOD)


def test_minus_takes_from_of_what_it_does_not_say():
    assert values("{of: {run: good}, minus: {metric: other}}", s=PLAIN + GOOD) == close(0.2, 0.4)
    assert values("{of: {run: good, metric: other}, minus: {study: t, run: plain}}", s=GOOD, t=PLAIN) == close(0.4, 0.4)
    asked = simple("{of: {run: good, where: {rate: 1}}, minus: {run: plain}}")
    assert asked.minus.where == {}, "which runs are meant is said whole"


def test_where_asks_for_fields_and_for_the_ends_of_what_is_left():
    runs = [run(0, name, rate, test_accuracy=rate) for name, rate in (("plain", 9.0), ("good", 1.0), ("good", 2.0), ("good", 3.0))]
    assert values("{of: {run: good, where: {rate: 2}}}", s=runs) == close(2)
    assert values("{of: {run: good, where: {rate: largest}}, minus: {run: good, where: {rate: smallest}}}", s=runs) == close(2)
    assert values("{of: {where: {rate: largest, name: good}}}", s=runs) == close(3), "in whichever order they are written"
    with pytest.raises(ValueError, match="two runs are called 'test_accuracy of good"):
        values("{of: {run: good}}", s=runs)


def test_a_run_without_the_number_is_left_out():
    assert values("{of: {}}", s=[*PLAIN, run(2, test_accuracy=None), run(3, other=1.0)]) == close(0.5, 0.7)


def test_reasons_why_nothing_can_be_said():
    nothing = Results((), (Missing(Toy(), "no GPU"),))
    with pytest.raises(NotTestable, match=r"^nothing was timed \(no GPU\)$"):
        values("{of: {missing: nothing was timed}}", s=nothing)
    with pytest.raises(NotTestable, match="no baseline"):
        values("{of: {run: good}, minus: {study: t, run: plain, missing: no baseline}}", s=GOOD, t=GOOD)
    with pytest.raises(NotTestable, match=r"no two runs of the same seed to compare \(no GPU\)"):
        values("{of: {run: good}, minus: {study: t}}", s=GOOD, t=nothing)


def test_pairs_that_learnt_nothing_do_not_count():
    poor = [run(0, test_accuracy=0.1), run(0, "good", test_accuracy=0.2), run(1, test_accuracy=0.1), run(1, "good", test_accuracy=0.4)]
    assert values("{of: {run: good}, minus: {run: plain}, least: 0.3}", s=poor) == close(0.3)
    with pytest.raises(NotTestable, match="no network is right in 90% of the cases"):
        values("{of: {run: good}, minus: {run: plain}, least: 0.9}", s=poor)
    worse = [run(0, test_accuracy=-2.0), run(0, "good", test_accuracy=-1.0)]
    assert values("{of: {run: good}, minus: {run: plain}}", s=worse) == close(1), "without least, numbers may be negative"


def test_a_diverged_run_counts_unless_it_is_said_not_to():
    runs = [*PLAIN, run(0, "good", test_accuracy=0.1, diverged=True), run(1, "good", test_accuracy=0.8, diverged=False)]
    assert values("{of: {run: good}, minus: {run: plain}}", s=runs) == close(-0.4, 0.1)
    with pytest.raises(NotTestable, match="'good' diverged with seed 0"):
        values("{of: {run: good}, minus: {run: plain}, diverged: not testable}", s=runs)
    assert values("{of: {run: plain}, diverged: not testable}", s=runs) == close(0.5, 0.7), "another run that diverged does not matter"


@pytest.mark.parametrize(
    "metric, said",
    [("acuracy", "no metric 'acuracy' in .*; there are other, test_accuracy"), ('"loss[0]"', "no curve or array 'loss' in .*; there are")],
)
def test_a_metric_that_no_run_has_is_an_error_that_lists_what_there_is(metric, said):
    with pytest.raises(ValueError, match=said):
        values(f"{{of: {{metric: {metric}}}}}", s=PLAIN)


@pytest.mark.parametrize(
    "text, said",
    [
        ("{off: {}}", "values name a function, or say `of`"),
        ("{of: {}, minsu: {}}", "values has no field 'minsu'; there are of, minus, below, least, diverged. Did you mean 'minus'"),
        ("{of: {rnu: good}}", "of has no field 'rnu'; there are study, run, where, metric, missing. Did you mean 'run'"),
        ("{of: {study: u}}", "of reads study 'u', and the claim's are s, t"),
        ("{of: {}, minus: {study: u}}", "minus reads study 'u'"),
        ("{of: {}, least: 0.3}", "least is about differences"),
        ("{of: {}, diverged: true}", "leave it out or say 'not testable'"),
        ("{of: {}, minus: {run: good}, below: {run: plain}}", "say minus or below, not both"),
        ("{of: {run: good}, minus: {}}", "minus reads the same numbers of the same runs as of"),
        ("{function: f, givne: {}}", "values has no field 'givne'; there are function, given"),
    ],
)
def test_an_entry_that_cannot_be_meant_is_an_error_in_one_line(text, said):
    with pytest.raises(ValueError, match=said) as error:
        simple(text)
    assert "\n" not in str(error.value)


SPECS = {
    "smoke": [Toy(name="good", rate=1.0)],
    "cpu": [Toy(seed=seed, name=name, rate=2.0) for seed in (0, 1) for name in ("plain", "good")],
}


@pytest.mark.parametrize(
    "of, said",
    [
        ("{run: godo}", "study 's' has no run 'godo'; there are good, plain. Did you mean 'good'"),
        ("{run: good, where: {rate: 3}}", "has rate 3; there are 1, 2"),
        ("{run: plain, where: {rate: 1}}", "has rate 1; there are 2"),
        ("{where: {rat: 3}}", "has a field 'rat'. Did you mean 'rate'"),
        ("{run: good, where: {rate: 1, seed: 1}}", "no run is all of test_accuracy of good, rate 1, seed 1"),
        ("{where: {rate: 2}}", "two runs are called .* with seed 0"),
    ],
)
def test_runs_that_a_chapter_has_at_no_scale_are_an_error_that_lists_what_there_is(of, said):
    with pytest.raises(ValueError, match=said):
        simple(f"{{of: {of}}}").of.check(lambda result: result.spec["name"], SPECS)


def test_runs_of_one_scale_are_enough():
    for of in ("{run: plain}", "{run: good, where: {rate: largest}}", "{where: {rate: smallest, name: good}}"):
        simple(f"{{of: {of}}}").of.check(lambda result: result.spec["name"], SPECS)


def test_a_function_is_told_what_is_given():
    told = simple("{function: called, given: {name: dense}}")
    assert str(told) == "called(name='dense')" and told.code("moe") == "lib/studies/moe/claims.py"
    dense, switch = (Result("t", str(seed), {"moe": moe}, {}, {}, {}, {}) for seed, moe in ((0, None), (1, {"router": "soft"})))
    assert list(told.reader("moe")(Results((dense, switch)))) == [dense] == list(called(Results((dense, switch)), "dense"))
    with pytest.raises(TypeError, match="nmae"):
        simple("{function: called, given: {name: dense, nmae: dense}}").check("moe")


@pytest.mark.parametrize("claim", claims().values(), ids=lambda claim: claim.id)
def test_every_claim_reads_runs_that_its_chapter_has(claim):
    claim.values.check(claim.subject)
