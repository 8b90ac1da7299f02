"""Every precondition lets pass what meets it, and says why it stops what does not."""

from pathlib import Path

import pytest

from lib.claims.entries import claims
from lib.measure.statistics import NotTestable
from lib.runs.results import Result, Results
from lib.studies.attention import needs as attention_needs
from lib.studies.base import needs
from lib.studies.distillation import needs as distillation_needs
from lib.studies.elastic import needs as elastic_needs
from lib.studies.growth import needs as growth_needs
from lib.studies.moe import needs as moe_needs
from lib.studies.privacy import needs as privacy_needs
from lib.studies.pruning import needs as pruning_needs
from lib.studies.teachers import needs as teachers_needs
from lib.studies.tickets import needs as tickets_needs

LINEAR = needs.LINEAR["cifar10"]


def run(experiment, spec=None, arrays=None, data="cifar10", **metrics) -> Result:
    spec = {"seed": 0} | (spec or {})
    return Result(experiment, f"{experiment} {spec} {metrics}", spec, metrics, {}, arrays or {}, {"device": "none", "data": {"name": data}})


def runs(*found) -> Results:
    return Results(tuple(found))


def passes(need, studies, *margin) -> None:
    need(studies, *margin)


def stops(need, studies, *margin, saying) -> None:
    with pytest.raises(NotTestable, match=saying):
        need(studies, *margin)


# Of numbers


def test_a_floor():
    needs.above_floor([0.5, 0.6], 0.54, "the network", "guessing")
    for values in ([0.5, 0.58], [0.54]):
        with pytest.raises(NotTestable, match="the network is right in 54.0% of the cases, and guessing in 54.0%"):
            needs.above_floor(values, 0.54, "the network", "guessing")
    with pytest.raises(NotTestable, match="was not run"):
        needs.above_floor([], 0.54, "the network", "guessing")


def test_a_learning_curve():
    usual = {0: 0.80, 1: 0.82}
    needs.flat(usual, {0: 0.804, 1: 0.824}, 0.005, "the network")
    with pytest.raises(NotTestable, match="twice the training brings the network 5.0 points, more than the 0.5 that decide"):
        needs.flat(usual, {0: 0.85, 1: 0.87}, 0.005, "the network")
    with pytest.raises(NotTestable, match="was not trained twice as long"):
        needs.flat(usual, {}, 0.005, "the network")


def test_a_denominator():
    needs.leaves_out_zero([0.02, 0.03, 0.025], "the gain")
    for values in ([0.02, -0.03, 0.025], [-0.02, -0.03, -0.025], [0.5]):
        with pytest.raises(NotTestable, match="the gain is not above 0 for sure"):
            needs.leaves_out_zero(values, "the gain")


def test_an_order():
    needs.better([0.9], [0.8], "the teacher", "its student")
    needs.better([0.79], [0.8], "the teacher", "its student", least=-0.02)
    for first in ([0.8], [0.7]):
        with pytest.raises(NotTestable, match="would have to be better"):
            needs.better(first, [0.8], "the teacher", "its student")
    with pytest.raises(NotTestable, match="not both run"):
        needs.better([], [0.8], "the teacher", "its student")


def test_what_matters_and_what_is_enough():
    needs.matters([0.3, 0.4], 0.02, "the width")
    with pytest.raises(NotTestable, match="makes 1.0 points of difference"):
        needs.matters([0.39, 0.4], 0.02, "the width")
    with pytest.raises(NotTestable, match="was not varied"):
        needs.matters([0.39], 0.02, "the width")
    needs.at_least([20, 30], 20, "the network", "tokens")
    with pytest.raises(NotTestable, match="has 1.84 tokens, and 20 are asked"):
        needs.at_least([1.84], 20, "the network", "tokens")


# The mixtures chapter


def vit(accuracy, epochs=4, seed=0, widening=1, **moe):
    spec = {"seed": seed, "dataset": "cifar10", "moe": moe or None, "teacher": None, "recipe": {"epochs": epochs}, "ewa_beta": 0.01}
    spec["widening"] = widening
    return run("moe-vit", spec, test_accuracy=accuracy, val_accuracy_first_expert=accuracy, val_accuracy_merged_uniform=0.42)


def test_the_dense_vision_transformer_has_learnt():
    passes(moe_needs.dense_has_learnt, {"baseline": runs(vit(LINEAR + 0.01))})
    stops(moe_needs.dense_has_learnt, {"baseline": runs(vit(LINEAR - 0.01))}, saying="linear classifier")
    passes(moe_needs.compared_have_learnt, {"accuracy": runs(vit(LINEAR + 0.01))})
    stops(moe_needs.compared_have_learnt, {"accuracy": runs(vit(LINEAR - 0.01))}, saying="linear classifier")


def test_the_dense_vision_transformer_is_flat():
    long = vit(0.85, 8)
    passes(moe_needs.dense_is_flat, {"baseline": runs(vit(0.846), long)}, 0.005)
    stops(moe_needs.dense_is_flat, {"baseline": runs(vit(0.78), long)}, 0.005, saying="still learning")
    stops(moe_needs.dense_is_flat, {"baseline": runs(vit(0.78))}, 0.005, saying="not trained")
    passes(moe_needs.compared_are_flat, {"accuracy": runs(vit(0.846), long, vit(0.9, widening=4))}, 0.01)
    stops(moe_needs.compared_are_flat, {"accuracy": runs(vit(0.84), long)}, 0.01, saying="1.0 points, more than the 1")
    stops(moe_needs.compared_are_flat, {"accuracy": runs(vit(0.84))}, 0.01, saying="not trained")


def test_the_width_of_feed_forward_layers():
    usual, long = vit(0.83), vit(0.86, 8)
    passes(moe_needs.width_matters, {"accuracy": runs(usual, long, vit(0.835, widening=4))})
    stops(moe_needs.width_matters, {"accuracy": runs(usual, long, vit(0.832, widening=4))}, saying="would have to be better")
    stops(moe_needs.width_matters, {"accuracy": runs(usual, long)}, saying="not both run")


def test_averaged_experts():
    passes(moe_needs.averaged_experts_differ, {"random": runs(vit(0.40, router="partition"), vit(0.4201, seed=1, router="partition"))})
    stops(
        moe_needs.averaged_experts_differ,
        {"random": runs(vit(0.4202, router="partition"), vit(0.42, seed=1, router="partition"))},
        saying="the same network",
    )


# The elastic chapter


def elastic(accuracy, *, hidden=96, k=2, sampler=None, epochs=4, seed=0, dense=False, offered=True, wall=None):
    spec = {
        "seed": seed,
        "dataset": "cifar10",
        "sampler": sampler,
        "moe": None if dense else {"router": "switch"},
        "offered": {} if offered else None,
        "recipe": {"epochs": epochs},
        "space": {"hidden": [hidden], "k": [k]},
    }
    return run("elastic-vit", spec, {"wall_k": [k], "wall_accuracy": [wall]}, test_accuracy_large=accuracy)


def test_elastic_networks():
    passes(elastic_needs.network_has_learnt, {"samplers": runs(elastic(LINEAR + 0.01))})
    stops(elastic_needs.network_has_learnt, {"samplers": runs(elastic(LINEAR - 0.01))}, saying="linear classifier")
    studies = {"axes": runs(elastic(0.80)), "lengths": runs(elastic(0.803, epochs=8))}
    passes(elastic_needs.network_is_flat, studies, 0.005)
    stops(elastic_needs.network_is_flat, studies | {"lengths": runs(elastic(0.87, epochs=8))}, 0.005, saying="still learning")
    stops(elastic_needs.network_is_flat, studies | {"lengths": runs()}, 0.005, saying="not trained")


def test_both_rules_of_sampling_have_learnt():
    def both(sandwich, uniform):
        rules = (({"type": "Sandwich", "distil": False}, sandwich), ({"type": "Uniform"}, uniform))
        return {
            "sandwich": runs(
                *(
                    run("elastic-vit", {"dataset": "cifar10", "sampler": rule}, test_accuracy_large=large, test_accuracy_smallest=small)
                    for rule, (large, small) in rules
                )
            )
        }

    good, bad = (LINEAR + 0.05, LINEAR - 0.03), (LINEAR + 0.02, LINEAR - 0.03)
    passes(elastic_needs.sandwich_has_learnt, both(good, good))
    stops(elastic_needs.sandwich_has_learnt, both(bad, good), saying="by the sandwich rule is right in 40.5%")
    stops(elastic_needs.sandwich_has_learnt, both(good, bad), saying="by four at random is right in 40.5%")
    stops(elastic_needs.sandwich_has_learnt, {"sandwich": runs()}, saying="was not run")


def test_width_and_k_have_to_matter():
    def widths(narrow):
        return {"matformer": runs(elastic(narrow, hidden=24, dense=True), elastic(0.40, hidden=192, dense=True))}

    passes(elastic_needs.width_matters, widths(0.37))
    stops(elastic_needs.width_matters, widths(0.395), saying="width of the FFNs makes 0.5 points")

    def ks(one):
        return {"sparsity": runs(elastic(one, k=1, offered=False), elastic(0.42, k=2))}

    passes(elastic_needs.k_matters, ks(0.39))
    stops(elastic_needs.k_matters, ks(0.415), saying="number of active experts")


def test_controls_under_the_same_recipe():
    def studies(distilled):
        return {
            "late distillation": runs(elastic(distilled, sampler={"type": "Sandwich", "distil": True})),
            "sandwich": runs(elastic(0.42, sampler={"type": "Sandwich", "distil": False})),
        }

    passes(elastic_needs.distilled_network_trains, studies(0.41))
    stops(elastic_needs.distilled_network_trains, studies(0.35), saying="under distillation in place")

    def sparsity(ours):
        return {"sparsity": runs(elastic(0, sampler={"type": "CoActivation"}, wall=ours), elastic(0, wall=0.42))}

    passes(elastic_needs.coactivation_trains, sparsity(0.418))
    stops(elastic_needs.coactivation_trains, sparsity(0.36), saying="co-activation")


# The growth and the attention chapter


def gpt(loss, *, steps=600, sparse=False, tokens=1000, flops=1.0):
    spec = {"seed": 0, "steps": steps, "parent": None, "model": {"moe": {"experts": 8} if sparse else None}, "growth": []}
    return run("growth-gpt", spec, test_bits_per_byte=loss, tokens=tokens, parameters=100, total_flops=flops, diverged=False)


def test_language_models_have_enough_text():
    passes(growth_needs.final_network_has_tokens, {"scratch": runs(gpt(1.5, tokens=2000))})
    stops(growth_needs.final_network_has_tokens, {"scratch": runs(gpt(1.5, tokens=184))}, saying="1.84 training tokens per parameter")
    # Of several budgets, the one that every comparison gets.
    budgets = [gpt(1.5, steps=steps, tokens=tokens) for steps, tokens in ((300, 900), (600, 1800), (1200, 3600))]
    stops(growth_needs.final_network_has_tokens, {"scratch": runs(*budgets)}, saying="18 training tokens")
    story = run("attention-stories", {"tokens": 1024, "steps": 10}, parameters=500)
    passes(attention_needs.story_models_have_tokens, {"stories": runs(story)})
    stops(
        attention_needs.story_models_have_tokens,
        {"stories": runs(run("attention-stories", {"tokens": 1024, "steps": 5}, parameters=5000))},
        saying="training tokens",
    )


def test_recall_needs_the_context():
    def recall(*beyond):
        return {"recall": runs(*(run("attention-recall", accuracy_beyond=value, chance=0.25) for value in (*beyond, None)))}

    passes(attention_needs.answers_outside_the_context_are_guessed, recall(0.22, 0.31))
    stops(attention_needs.answers_outside_the_context_are_guessed, recall(0.29, 0.35), saying="7.0 points more often than by chance")
    stops(attention_needs.answers_outside_the_context_are_guessed, recall(), saying="too short for the answer")


def test_a_mixture_is_worth_growing_into():
    passes(growth_needs.mixture_not_worse_than_dense, {"scratch": runs(gpt(1.5), gpt(1.49, sparse=True))})
    stops(
        growth_needs.mixture_not_worse_than_dense, {"scratch": runs(gpt(1.5), gpt(1.63, sparse=True))}, saying="0.130 bits per byte worse"
    )
    stops(
        growth_needs.mixture_not_worse_than_dense, {"scratch": runs(gpt(1.5), gpt(1.4, sparse=True, flops=9.0))}, saying="not both trained"
    )


# The pruning chapter


def dense(accuracy, kind="ResNetConfig", warmup=0.0):
    return run("pruning-dense", {"dataset": "cifar10", "model": {"type": kind}, "recipe": {"warmup": warmup}}, test_accuracy=accuracy)


def test_dense_networks_that_are_pruned():
    passes(pruning_needs.dense_has_learnt, {"tickets": runs(dense(LINEAR + 0.01))})
    stops(pruning_needs.dense_has_learnt, {"dense": runs(dense(LINEAR - 0.01, "VGGConfig"))}, saying="the dense VGG is right")
    stops(pruning_needs.dense_has_learnt, {"tickets": runs()}, saying="no dense network")
    passes(pruning_needs.dense_is_flat, {"tickets": runs(dense(0.9)), "longer": runs(dense(0.905))}, 0.01)
    stops(pruning_needs.dense_is_flat, {"tickets": runs(dense(0.9)), "longer": runs(dense(0.92))}, 0.01, saying="still learning")
    stops(pruning_needs.dense_is_flat, {"tickets": runs(dense(0.9)), "longer": runs(dense(0.9, "VGGConfig"))}, 0.01, saying="not trained")
    passes(pruning_needs.dense_is_flat, {"tickets": runs(dense(0.9, warmup=0.1)), "tickets longer": runs(dense(0.905, warmup=0.1))}, 0.01)
    # Of a short and a long warm-up the short one counts.
    both = runs(dense(0.9, warmup=0.1), dense(LINEAR - 0.01, warmup=0.3))
    assert [warmed.metrics["test_accuracy"] for warmed in pruning_needs.dense_runs({"tickets": both}, longer=False)["ResNetConfig"]] == [
        0.9
    ]


def test_synflow_has_to_leave_networks_that_train():
    def pruned(accuracy, density=1 / 316, score="synflow"):
        spec = {"dense": {"dataset": "mnist"}, "score": score, "density": density, "start": "official", "one_shot": False}
        return run("pruning-initial", spec, test_accuracy=accuracy)

    linear = needs.LINEAR["mnist"]
    passes(pruning_needs.synflow_still_trains, {"official init": runs(pruned(linear + 0.01), pruned(0.1, score="magnitude"))})
    stops(
        pruning_needs.synflow_still_trains, {"official init": runs(pruned(linear - 0.01), pruned(0.98, 1 / 30))}, saying="linear classifier"
    )
    stops(pruning_needs.synflow_still_trains, {"official init": runs()}, saying="was not run")


def test_stability_has_to_be_in_question():
    def barrier(rise):
        spec = {"level": 0, "parent": {"rewind": 0, "parent": {"recipe": {"warmup": 0.0}}}}
        return {"barrier": runs(run("pruning-barrier", spec, test_barrier=rise))}

    passes(pruning_needs.dense_is_unstable_at_start, barrier(0.12))
    stops(pruning_needs.dense_is_unstable_at_start, barrier(0.08), saying="8 points of error")


def test_networks_that_are_ranked():
    def meta(*accuracies):
        return {"meta": runs(run("pruning-meta", {}, {"networks": [{"test_accuracy": value} for value in accuracies]}))}

    spread = [0.5 + number / 200 for number in range(12)]
    passes(pruning_needs.networks_differ, meta(*spread))
    stops(pruning_needs.networks_differ, meta(*spread[:5]), saying="5 networks")
    stops(pruning_needs.networks_differ, meta(*[0.5 + number / 1000 for number in range(12)]), saying="1.1 points")


# The tickets chapter


def test_the_whole_network_under_the_tickets_recipe():
    whole = run("tickets-finetune", {"task": "name", "start": "pretrained"}, test_accuracy=0.83)

    def studies(brief):
        return {
            "finetune": runs(whole),
            "early-tickets": runs(run("tickets-early", {"draw": "whole", "search": {"base": {"task": "name"}}}, test_accuracy=brief)),
        }

    passes(tickets_needs.whole_network_trains_as_briefly, studies(0.80))
    stops(tickets_needs.whole_network_trains_as_briefly, studies(0.57), saying="the recipe fails, not the ticket")
    stops(
        tickets_needs.whole_network_trains_as_briefly,
        {"finetune": runs(whole), "early-tickets": runs()},
        saying="nothing says that it trains",
    )


def test_what_is_timed_is_compute():
    def speed(depth, heads):
        return {
            "ebert-speed": runs(
                run(
                    "tickets-ebert-speed",
                    {
                        "dynamic": {
                            "parent": {
                                "parent": {
                                    "task": "name",
                                    "parent": {"source": {}, "chosen": 0.3, "model": {"depth": depth, "heads": heads}},
                                }
                            }
                        }
                    },
                )
            )
        }

    passes(tickets_needs.arithmetic_takes_the_time, speed(6, 8))
    stops(tickets_needs.arithmetic_takes_the_time, speed(3, 4), saying="3 layers with 4 heads")


# The distillation and the teachers chapter


def plain(accuracy, epochs=5, seed=0):
    return run(
        "distillation-plain",
        {"seed": seed, "dataset": "cifar10", "recipe": {"epochs": epochs, "label_smoothing": 0}},
        test_accuracy=accuracy,
    )


@pytest.fixture
def by_names(monkeypatch):
    """Runs are called by their experiment here: what names them is tested elsewhere."""
    names = {
        "distillation-plain": distillation_needs.ALONE,
        "distillation-pair": teachers_needs.NASTY,
        "distillation-deit": distillation_needs.ALONE,
    }
    for module in (
        "lib.studies.distillation.claims.method",
        "lib.studies.teachers.hostile_claims.student",
        "lib.studies.distillation.needs.student",
        "lib.studies.distillation.needs.method",
    ):
        monkeypatch.setattr(module, lambda result: names[result.experiment])


def test_students_and_teachers(by_names):
    passes(distillation_needs.student_has_learnt, {"alone": runs(plain(LINEAR + 0.01))})
    stops(distillation_needs.student_has_learnt, {"alone": runs(plain(LINEAR - 0.01))}, saying="linear classifier")
    passes(distillation_needs.teacher_is_better, {"teacher": runs(plain(0.9)), "alone": runs(plain(0.8))})
    stops(distillation_needs.teacher_is_better, {"teacher": runs(plain(0.7)), "alone": runs(plain(0.8))}, saying="would have to be better")

    def studies(patient, **more):
        return {"alone": runs(plain(0.80)), "longer": runs(), "patient": runs(patient)} | more

    passes(distillation_needs.student_is_flat, studies(plain(0.805, 8)), 0.01)
    stops(distillation_needs.student_is_flat, studies(plain(0.844, 8)), 0.01, saying="1.6 times the training brings")
    # Twice as long counts before any other length.
    passes(distillation_needs.student_is_flat, studies(plain(0.844, 8), longer=runs(plain(0.804, 10), plain(0.9, 20))), 0.01)


def test_a_nasty_teacher_is_nasty(by_names):
    def studies(taught):
        return {"alone": runs(plain(0.6)), "nasty students": runs(run("distillation-pair", {"seed": 0}, test_accuracy=taught))}

    passes(teachers_needs.nasty_teacher_is_nasty, studies(0.5))
    stops(teachers_needs.nasty_teacher_is_nasty, studies(0.628), saying="not nasty: an ordinary student of it is \\+2.8 points")
    stops(teachers_needs.nasty_teacher_is_nasty, studies(0.5) | {"alone": runs()}, saying="shows whether it is nasty")


def test_networks_with_exits_and_transformers(by_names):
    def exits(accuracy, longer=0.6):
        spec = {"dataset": "cifar10", "places": []}
        return {
            "self": runs(run("distillation-exits", spec, test_accuracy=accuracy)),
            "self longer": runs(run("distillation-exits", spec | {"more": 1}, test_accuracy=longer)),
        }

    passes(teachers_needs.network_with_exits_has_learnt, exits(LINEAR + 0.01))
    stops(teachers_needs.network_with_exits_has_learnt, exits(LINEAR - 0.01), saying="linear classifier")
    passes(teachers_needs.network_with_exits_is_flat, exits(0.595), 0.01)
    stops(teachers_needs.network_with_exits_is_flat, exits(0.5), 0.01, saying="still learning")
    passes(distillation_needs.transformer_has_learnt, {"deit": runs(run("distillation-deit", test_accuracy=LINEAR + 0.01))})
    stops(
        distillation_needs.transformer_has_learnt,
        {"deit": runs(run("distillation-deit", test_accuracy=LINEAR - 0.01))},
        saying="linear classifier",
    )


def test_mixtures_whose_students_are_judged():
    def mixtures(dense):
        made = {"moe": {"experts": 4}, "recipe": {"epochs": 1}}
        return {"sparse": runs(run("moe-vit", made | {"moe": None}, test_accuracy=dense), run("moe-vit", made, test_accuracy=0.9))}

    passes(distillation_needs.dense_has_learnt, mixtures(LINEAR + 0.01))
    stops(distillation_needs.dense_has_learnt, mixtures(LINEAR - 0.01), saying="linear classifier")


def test_teachers_of_texts_and_students_without_data():
    def texts(teacher, parameters=100):
        return {
            "tinybert words": runs(run("tickets-words", test_accuracy=0.73)),
            "tinybert": runs(run("distillation-tinybert", teacher_test_accuracy=teacher, teacher_parameters=800, parameters=parameters)),
        }

    passes(tickets_needs.teacher_beats_words, texts(0.74))
    stops(tickets_needs.teacher_beats_words, texts(0.72), saying="counting words")
    passes(tickets_needs.student_is_small_enough, texts(0.74))
    stops(tickets_needs.student_is_small_enough, texts(0.74, 300), saying="2.67 times fewer parameters")
    passes(teachers_needs.zero_shot_is_finished, {"zero-shot": runs(run("distillation-zero-shot"))})
    stops(teachers_needs.zero_shot_is_finished, {"zero-shot": runs(run("distillation-zero-shot", data="mnist"))}, saying="of CIFAR-10")


# The privacy chapter


def test_the_network_with_all_its_relus():
    passes(
        privacy_needs.all_relus_have_learnt,
        {"baseline": runs(run("privacy-baseline", {"dataset": "cifar10"}, test_accuracy=LINEAR + 0.01))},
    )
    stops(
        privacy_needs.all_relus_have_learnt,
        {"baseline": runs(run("privacy-baseline", {"dataset": "cifar10"}, test_accuracy=LINEAR - 0.01))},
        saying="linear classifier",
    )


def test_every_need_of_a_claim_is_tested_both_ways():
    """Here, or beside the tests of the claims of its chapter."""
    here = Path(__file__)
    for claim in claims().values():
        beside = "".join(path.read_text(encoding="utf-8") for path in (here.parents[1] / claim.subject).glob("test_*.py"))
        for need in claim.needs:
            tested = (here.read_text(encoding="utf-8").count(f"{claim.subject}_needs.{need.name},"), beside.count(f" needs.{need.name}("))
            assert max(tested) >= 2, (claim.id, need.name)
