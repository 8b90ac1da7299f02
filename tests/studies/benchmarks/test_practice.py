"""The benchmarks chapter's first regime: each method changes what it says, all get the same budget, and files say what ran."""

from dataclasses import replace

import pytest
import torch

from lib.data.images import ImageBatches
from lib.models.whitened_cnn import WhitenedCNN
from lib.pruning.mask import layers, sparsity
from lib.pruning.structure import structure
from lib.quantization import packed
from lib.quantization.catalogue import unique
from lib.runs.spec import all_fields
from lib.runs.store import Session, Store, obtain
from lib.studies.anchors.runs import AnchorRun
from lib.studies.base.answers import correct_of
from lib.studies.base.images import available_images
from lib.studies.benchmarks import practice as practice_module
from lib.studies.benchmarks.compress import Channels, Codes, Files, LowRank, Rounded, Sparse, SparseCodes, Student, Tuned
from lib.studies.benchmarks.practice import CompressedRun
from lib.studies.benchmarks.practice_names import KINDS, called, kind, shape, timed_shape
from lib.studies.benchmarks.practice_sizes import RATES, practice, practice_studies
from lib.studies.benchmarks.practice_table import QUESTIONS, WHOLE, answers_to, methods, pairs, ratios, runs, time_ratios
from lib.studies.benchmarks.rows import correct

SIZE = practice("smoke")
STUDIES = practice_studies(SIZE)
RUNS = STUDIES["practice"]
ANCHOR = SIZE.anchor


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return Store(folder / "none", folder)


@pytest.fixture(scope="module")
def results(store):
    return {result.key: result for study in STUDIES.values() for result in obtain(study, store=store, device="cpu")}


@pytest.fixture(scope="module")
def images():
    return available_images(ANCHOR.dataset, ANCHOR.train_examples, torch.device("cpu"))


def session(store, spec):
    return Session(torch.device("cpu"), store, spec, lambda part, text: None)


def of(method, then=None):
    """The run of exactly this method."""
    return next(run for run in RUNS if run.method == (then or method) and (then is None or getattr(run.parent, "method", None) == method))


def loaded(run, store, images):
    return run.load(session(store, run), images)


def called_of(run):
    return called(all_fields(run))


# The budget


@pytest.mark.parametrize("scale", ["smoke", "laptop", "cpu", "gpu"])
def test_all_that_is_trained_gets_the_same_steps_on_as_many_images(scale):
    trained = [run for run in practice_studies(practice(scale))["practice"] if run.recipe is not None]
    assert len({replace(run.recipe, lr=1.0) for run in trained}) == 1 and len({run.anchor.model for run in trained}) == 1
    assert {type(run.method): run.recipe.lr for run in trained} == {
        kind: rate for kind, rate in RATES.items() if any(type(run.method) is kind for run in trained)
    }


def test_steps_are_counted_as_they_are_taken(results, store, monkeypatch, images):
    taken = []
    batch = ImageBatches.batch
    monkeypatch.setattr(ImageBatches, "batch", lambda self, epoch, step: taken.append((epoch, step)) or batch(self, epoch, step))
    for run in (of(Tuned()), of(Sparse(1 / 8)), of(Student(SIZE.narrow[1])), of(SparseCodes(1 / 4, 4))):
        taken.clear()
        found = run.run(session(store, run))
        steps = SIZE.epochs * (len(images.train) // run.recipe.batch_size)
        assert len(set(taken)) == steps == found.metrics["steps"]
        assert found.metrics["images_seen"] == steps * run.recipe.batch_size


def test_every_trained_run_took_as_many_steps_and_the_others_none(results):
    steps = {results[run.key].metrics["steps"] for run in RUNS if run.recipe is not None}
    assert len(steps) == 1 and steps != {0}
    assert {results[run.key].metrics["steps"] for run in RUNS if run.recipe is None and run.parent == ANCHOR} == {0}
    followed = [run for run in RUNS if isinstance(run.parent, CompressedRun)]
    assert followed and all(results[run.key].metrics["steps"] == results[run.parent.key].metrics["steps"] for run in followed)


def test_a_teacher_is_paid_for(results):
    taught, alone = (replace(of(Student(SIZE.narrow[1])), method=Student(SIZE.narrow[1], taught=one)) for one in (True, False))
    seen, whole = results[taught.key].metrics["images_seen"], results[of(Files(32)).key].metrics["flops"]
    own = results[taught.key].metrics["flops"]
    assert results[taught.key].metrics["train_flops"] == pytest.approx(seen * (3 * own + whole))
    assert alone.key != taught.key


def test_budgets_cannot_be_bought_twice():
    with pytest.raises(ValueError, match="budgets are unequal"):
        CompressedRun(parent=of(Tuned()), method=Sparse(0.5), recipe=of(Tuned()).recipe)
    with pytest.raises(ValueError, match="needs no training"):
        CompressedRun(parent=ANCHOR, method=Rounded(8), recipe=of(Tuned()).recipe)
    with pytest.raises(ValueError, match="give it one"):
        CompressedRun(parent=ANCHOR, method=Sparse(0.5))


# Each method changes what it says, and nothing else


def test_the_network_as_it_is_answers_as_it_did(results, store, images):
    whole, parent = results[of(Files(32)).key], store.get(ANCHOR)
    assert whole.metrics["test_accuracy"] == pytest.approx(parent.metrics["test_accuracy"], abs=0.003)
    before, after = ANCHOR.load(session(store, ANCHOR), images), loaded(of(Files(32)), store, images)
    assert all(torch.equal(one, other) for one, other in zip(before.state_dict().values(), after.state_dict().values()))


def test_the_control_is_the_same_network_with_the_training_alone(results, store, images):
    before, after = ANCHOR.load(session(store, ANCHOR), images), loaded(of(Tuned()), store, images)
    assert after.config == before.config and sparsity(after) == pytest.approx(sparsity(before), abs=0.01)
    assert not torch.equal(before.groups[0].conv2.weight, after.groups[0].conv2.weight)
    assert torch.equal(before.stem.weight, after.stem.weight)


@pytest.mark.parametrize("run", [run for run in RUNS if isinstance(run.method, (Sparse, SparseCodes))], ids=called_of)
def test_pruned_networks_have_the_weights_that_they_claim(run, results, store, images):
    model = loaded(run, store, images)
    kept = [layer.weight.count_nonzero() for name, layer in layers(model).items() if isinstance(run.method, Sparse) or name != "stem"]
    total = sum(layer.weight.numel() for name, layer in layers(model).items() if isinstance(run.method, Sparse) or name != "stem")
    assert sum(kept) <= run.method.density * total + 1
    if getattr(run.method, "structure", "") == "2:4":
        for layer in layers(model).values():
            assert not (layer.weight != 0)[~structure("2:4").mask(layer.weight.detach().abs())].any()


@pytest.mark.parametrize("run", [run for run in RUNS if isinstance(run.method, (Codes, SparseCodes))], ids=called_of)
def test_codes_are_few_in_each_section(run, store, images):
    model = loaded(run, store, images)
    for name, layer in layers(model).items():
        if name != "stem":
            assert unique(layer.weight, run.method.grid) <= 2**run.method.bits


def test_rounding_moves_weights_by_half_a_step_at_most(store, images):
    before, after = ANCHOR.load(session(store, ANCHOR), images), loaded(of(Rounded(8)), store, images)
    for name, layer in layers(before).items():
        moved = (layer.weight - after.get_submodule(name).weight).abs().max()
        assert moved <= (0 if name == "stem" else layer.weight.abs().max() / 127 / 2 * 1.001)
        assert name == "stem" or unique(after.get_submodule(name).weight, (1, 1)) <= 255


def test_channels_factors_and_students_have_the_geometry_that_they_claim(results, store, images):
    half, quarter = SIZE.narrow
    for run in (of(Channels(quarter)), of(Student(quarter))):
        assert loaded(run, store, images).config == WhitenedCNN(replace(ANCHOR.model, widths=quarter)).config
    assert results[of(Channels(quarter)).key].metrics["parameters"] == results[of(Student(quarter)).key].metrics["parameters"]
    low = loaded(of(LowRank(1 / 4)), store, images)
    assert low.config.widths == ANCHOR.model.widths and low.config.ranks
    assert results[of(LowRank(1 / 4)).key].metrics["flops"] < 0.5 * results[of(Files(32)).key].metrics["flops"]


def test_a_student_begins_as_a_new_network_does(store, images):
    teacher = ANCHOR.load(session(store, ANCHOR), images)
    student = Student(SIZE.narrow[1]).begin(teacher, images, ImageBatches(images.train, images, 50), seed=1)
    assert student.head.weight.count_nonzero() == 0 and teacher.head.weight.count_nonzero() > 0
    image = torch.randn(1, teacher.config.stem_width, 5, 5)
    width = min(student.config.widths[0], teacher.config.stem_width)
    torch.testing.assert_close(student.groups[0].conv1(image)[:, :width], image[:, :width])  # hands its input on
    torch.testing.assert_close(student.stem.weight, teacher.stem.weight, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("scale", ["cpu"])
def test_narrow_networks_have_a_half_and_a_quarter_of_the_weights(scale):
    size = practice(scale)
    with torch.device("meta"):
        whole, *smaller = (
            sum(p.numel() for p in WhitenedCNN(replace(size.anchor.model, widths=widths)).parameters())
            for widths in (size.anchor.model.widths, *size.narrow)
        )
    assert [whole / count for count in smaller] == pytest.approx([2, 4], rel=0.1)


# What is judged is what is in the file


@pytest.mark.parametrize("run", RUNS, ids=called_of)
def test_the_bytes_are_those_on_disk_and_the_answers_those_of_the_file(run, results, store, images):
    found = results[run.key]
    path = store.scratch(run) / "shipped.packed"
    assert path.stat().st_size == found.metrics["file_bytes"]
    read = run.method.as_it_runs(packed.read(path), images)
    right = correct(read, images.test, images, ANCHOR.recipe.precision)
    assert torch.equal(torch.from_numpy(correct_of(found.arrays["correct"])), right)
    assert found.metrics["test_accuracy"] == pytest.approx(right.double().mean().item(), rel=1e-6)


def test_integer_products_are_used_where_the_name_says_so(store, images):
    run = of(Rounded(8, activations=True))
    fast = run.method.as_it_runs(loaded(run, store, images), images)
    assert [type(one).__name__ for one in fast.modules()].count("Int8Conv2d") == 2 * len(ANCHOR.model.widths)


def test_smoke_runs_repeat_themselves(results, store, tmp_path):
    again = Store(tmp_path / "none", tmp_path)
    repeated = [of(Sparse(1 / 8)), of(Channels(SIZE.narrow[1])), of(Codes(2))]
    for run, result in zip(repeated, obtain(repeated, store=again, device="cpu")):
        first = results[run.key]
        assert result.arrays == first.arrays and result.metrics["val_accuracy"] == first.metrics["val_accuracy"]
        assert result.metrics["file_bytes"] == first.metrics["file_bytes"]


# The tables


def test_every_run_of_every_scale_has_a_name_of_its_own_and_a_kind():
    for scale in ("smoke", "laptop", "cpu", "gpu"):
        found = [all_fields(run) for run in practice_studies(practice(scale))["practice"] if run.seed == 0]
        assert len({called(spec) for spec in found}) == len(found) and {kind(spec) for spec in found} <= set(KINDS)


@pytest.mark.parametrize("scale", ["smoke", "laptop", "cpu", "gpu"])
def test_every_geometry_is_timed(scale):
    found = practice_studies(practice(scale))
    timed = {timed_shape(network) for network in all_fields(found["practice-times"][0])["networks"]}
    assert {shape(all_fields(run)) for run in found["practice"]} <= timed


def test_the_table_tells_each_method_once_and_the_whole_network_is_at_zero(results):
    found = [results[run.key] for run in RUNS]
    times = time_ratios([results[spec.key] for spec in STUDIES["practice-times"]])
    table = methods(found, "smoke", times)
    assert len(table) == len(RUNS) and table["name"].is_unique
    whole = table.set_index("name").loc[WHOLE]
    assert whole["apart"] == whole["low"] == whole["high"] == 0 and whole["smaller"] == 1
    assert table["ratio_many"].notna().all()
    masked = table[table["kind"].isin(["pruning", "codebooks", "rounding"])]
    assert masked["same_work"].all() and (masked["ratio_1"] == 1).all()
    assert (runs(found, "smoke")["smaller"] > 0).all()
    # The control takes the compute of so many epochs more; what needs no training, none.
    assert table.set_index("name").loc["trained on, 16 bits", "training"] == pytest.approx(SIZE.epochs / ANCHOR.recipe.epochs)
    assert table.set_index("name").loc["rounded to 8 bits", "training"] == 0


def test_a_part_of_the_runs_gives_a_part_of_the_table(results):
    some = [results[run.key] for run in RUNS[:4]]
    assert len(methods(some, "smoke", time_ratios([]))) == 4
    assert methods([results[of(Tuned()).key]], "smoke", time_ratios([])).empty
    assert answers_to(methods([], "smoke", time_ratios([]))).empty


def test_answers_are_chosen_on_validation_among_those_that_meet_the_want(results):
    table = methods([results[run.key] for run in RUNS], "smoke", time_ratios([results[spec.key] for spec in STUDIES["practice-times"]]))
    found = answers_to(table).set_index("want")
    for want, least in (("4× smaller file", 4), ("8× smaller file", 8)):
        fitting = table[table["smaller"] >= least]
        assert found.loc[want, "name"] == fitting.loc[fitting["val_apart"].idxmax(), "name"]
    without = table[(table["smaller"] >= 4) & (table["steps"] == 0)]
    assert found.loc["4× smaller file, no training", "name"] in set(without["name"])


def test_pairs_are_of_the_two_methods_that_the_question_names(results):
    found = pairs([results[run.key] for run in RUNS]).set_index("question")
    taught, narrow = (results[of(kind(SIZE.narrow[1])).key] for kind in (Student, Channels))
    row = found.loc["The trained network's channels or its answers?"]
    assert row["difference"].mean == pytest.approx(narrow.metrics["test_accuracy"] - taught.metrics["test_accuracy"])
    assert row["first_bytes"] == narrow.metrics["file_bytes"] and pairs([results[of(Tuned()).key]]).empty
    names = {called_of(run) for run in practice_studies(practice("cpu"))["practice"]}
    assert all({first, second} <= names for first, second in QUESTIONS.values())


def test_time_is_over_that_of_the_dense_network():
    times = time_ratios([])
    assert ratios(((8,), (), False), ((8,), (), False), times)["ratio_many"] == 1
    missing = ratios(((4,), (), False), ((8,), (), False), times)
    assert missing["ratio_many"] != missing["ratio_many"] and not missing["same_work"]


def test_the_parent_is_the_anchor_of_the_same_seed():
    for run in practice_studies(practice("cpu"))["practice"]:
        assert isinstance(run.anchor, AnchorRun) and run.anchor.seed == run.seed
    assert practice_module.FRESH > 100  # another order of the images than in the parent's training
