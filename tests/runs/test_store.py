"""The store: addresses, replay, damage, atomic writes, sharing, provenance."""

import html
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field, make_dataclass

import pytest
import torch
from safetensors.torch import save_file

from conftest import ROOT
from lib.claims.origin import provenance_line
from lib.runs import progress, provenance
from lib.runs.markdown import harmless
from lib.runs.results import LARGEST, Damaged, check_spec, checksum, contradiction, read_result, significant
from lib.runs.spec import Spec
from lib.runs.store import OUT_OF_TIME, Outcome, Session, Store, obtain
from lib.system import distributed
from lib.system.whole_file import replacing
from store_specs import SETS, Logged, Pupil, Teacher

SPECS_PROGRAM = ROOT / "tests" / "store_specs.py"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "reference", tmp_path / "own")


@pytest.fixture
def log(tmp_path, monkeypatch):
    """What the Specs of this test write when they run."""
    path = tmp_path / "log"
    path.touch()
    monkeypatch.setenv("LOG", str(path))
    return lambda: path.read_text().splitlines()


# Addresses


@dataclass(frozen=True)
class Optimiser:
    lr: float = 0.1
    betas: tuple[float, ...] = (0.9, 0.99)


@dataclass(frozen=True, kw_only=True)
class Example(Spec):
    experiment = "test-example"

    width: int = 8
    optimiser: Optimiser = Optimiser()
    names: tuple[str, ...] = field(default_factory=tuple)


def test_defaults_are_left_out_of_the_address():
    assert Example().key == Example(width=8, seed=0, optimiser=Optimiser(0.1), names=()).key
    assert (
        len({Example().key, Example(width=9).key, Example(seed=1).key, Example(names=("a",)).key, Example(optimiser=Optimiser(0.2)).key})
        == 5
    )


def test_addresses_never_change_by_accident():
    """Stored results are found by these names; a change here orphans every one of them."""
    assert Example(width=9, optimiser=Optimiser(lr=0.5)).key == "f9d7dd3844633ab2"


def test_a_new_field_with_a_default_keeps_every_address():
    wider = make_dataclass("Wider", [("depth", int, 2)], bases=(Example,), frozen=True, kw_only=True)
    assert wider(width=9).key == Example(width=9).key
    assert wider(depth=3).key != Example().key
    longer = make_dataclass("Optimiser", [("decay", float, 0.0)], bases=(Optimiser,), frozen=True)
    assert Example(optimiser=longer(lr=0.5)).key == Example(optimiser=Optimiser(lr=0.5)).key


def test_version_and_experiment_are_part_of_the_address():
    newer = type("Newer", (Example,), {"version": 2})
    other = type("Other", (Example,), {"experiment": "test-other"})
    assert len({Example().key, newer().key, other().key}) == 3


def test_the_version_of_a_spec_within_a_spec_counts():
    @dataclass(frozen=True, kw_only=True)
    class Pair(Spec):
        experiment = "test-pair"
        teacher: Spec | None = None

    newer = type("Example", (Example,), {"version": 2})
    assert Pair(teacher=Example()).key != Pair(teacher=newer()).key
    assert Pair(teacher=newer(seed=1)).label == "test-pair teacher.version=2 teacher.seed=1"


def test_equal_specs_have_one_address():
    assert Example(optimiser=Optimiser(lr=2)) == Example(optimiser=Optimiser(lr=2.0))
    assert Example(optimiser=Optimiser(lr=2)).key == Example(optimiser=Optimiser(lr=2.0)).key


def test_a_field_without_a_stable_address_is_refused():
    with pytest.raises(TypeError, match="'names' holds a list"):
        Example(names=["a"]).key  # noqa: B018 - the property raises


def test_labels_name_what_differs_from_the_defaults():
    assert Example(width=9, optimiser=Optimiser(lr=0.5)).label == "test-example width=9 optimiser.lr=0.5"


# Replay


def test_what_is_stored_is_replayed_and_what_is_missing_is_run(store, log):
    one, two, three = (Logged(name=name) for name in ("one", "two", "three"))
    obtain([two], store=store)
    results = obtain([three, two, one, two], store=store)
    assert [r.spec["name"] for r in results] == ["three", "two", "one"]
    assert log() == ["two 0", "three 0", "one 0"]
    assert obtain([one, two, three], store=store).missing == ()
    assert len(log()) == 3


def test_own_results_come_before_the_reference(store, log):
    spec = Logged(name="one")
    obtain([spec], store=Store(store.own, store.reference.parent / "writer"))
    written = store.reference.parent / "writer" / "results"
    written.rename(store.reference)
    assert obtain([spec], store=store)[0].origin == "reference"
    assert obtain([spec], store=store, recompute=True)[0].origin == "own"
    assert obtain([spec], store=store)[0].origin == "own"
    assert len(log()) == 2


def test_an_unavailable_spec_is_missing_and_the_others_run(store, log):
    thirteen = Logged(name="thirteen")
    results = obtain([thirteen, Logged(name="one")], store=store)
    assert [r.spec["name"] for r in results] == ["one"]
    assert [(m.spec, m.reason) for m in results.missing] == [(thirteen, "thirteen needs a lucky machine")]


def test_nothing_is_run_where_it_cannot_be(store, log):
    obtain([Logged(name="one")], store=store)
    results = obtain([Logged(name="one"), Logged(name="two")], store=store, cannot_run="no GPU here")
    assert (len(results), [m.reason for m in results.missing]) == (1, ["no GPU here"])
    assert log() == ["one 0"]


def test_after_the_deadline_nothing_more_is_begun(store, log):
    results = obtain(SETS["logged"], store=store, deadline=time.monotonic() - 1)
    assert [m.reason for m in results.missing] == [OUT_OF_TIME] * 6
    assert log() == []


def test_an_error_keeps_what_was_finished(store, log):
    class Broken(Logged):
        def run(self, session):
            raise ZeroDivisionError("broken on purpose")

    with pytest.raises(ZeroDivisionError):
        obtain([Logged(name="one"), Broken(name="two"), Logged(name="three")], store=store)
    assert obtain([Logged(name="one")], store=store, cannot_run="no").missing == ()
    assert log() == ["one 0"]


class Diverging(Logged):
    """Training that diverges, and what came of it: "fails" afterwards, or not."""

    def run(self, session):
        session.report(1.0, "level 2: diverged at step 7")
        if self.name == "fails":
            return 1 / 0
        session.save_weights(torch.nn.Linear(1, 1))
        return Outcome({"diverged": True})


@dataclass(frozen=True, kw_only=True)
class Heir(Logged):
    """Builds on training that diverged, and fails over it unless its own number is 1."""

    def run(self, session):
        session.weights(Diverging(name="works"))
        return Outcome({"value": 1 / (self.seed % 2)})


def test_training_that_diverged_is_a_result_that_says_so_or_a_reason(store):
    results = obtain([Diverging(name="works"), Diverging(name="fails"), Heir(name="heir"), Heir(name="heir", seed=1)], store=store)
    assert [result.provenance.get("diverged") for result in results] == [
        ["training diverged at step 7"],
        [f"the training of {Diverging(name='works').key}, which it builds on, diverged"],
    ]
    first, second = (missing.reason for missing in results.missing)
    assert first == "training diverged at step 7, and what is left cannot be measured (ZeroDivisionError: division by zero)"
    assert "which it builds on, diverged, and what is left cannot be measured" in second


def test_progress_is_told(store, tmp_path, monkeypatch):
    monkeypatch.setenv("BOOK_PROGRESS", str(tmp_path / "events"))
    seen = []
    monkeypatch.setattr(progress, "watchers", [seen.append])
    obtain([Logged(name="one"), Logged(name="thirteen")], store=store)
    obtain([Logged(name="one")], store=store)
    told = [(e["done"], e["total"], e["fraction"], e["text"]) for e in seen]
    assert told == [(0, 2, 0.5, "half"), (1, 2, 1.0, "ran"), (2, 2, 1.0, "thirteen needs a lucky machine"), (1, 1, 1.0, "replayed")]
    assert [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()] == seen


def test_weights_that_are_not_here_are_made_again(store, log):
    obtain([Teacher()], store=store)
    obtain([Pupil()], store=store)
    assert log() == ["teacher", "pupil one"]
    (store.scratch(Teacher()) / "weights.safetensors").unlink()
    obtain([Pupil(name="two")], store=store)
    assert log() == ["teacher", "pupil one", "pupil two", "teacher"]


@pytest.mark.parametrize("harm", [lambda content: content[:-5], lambda content: content[:-1] + bytes([content[-1] ^ 1])])
def test_damaged_weights_are_named_set_aside_and_made_again(store, log, capsys, harm):
    obtain([Pupil()], store=store)
    path = store.scratch(Teacher()) / "weights.safetensors"
    harmed = harm(path.read_bytes())
    path.write_bytes(harmed)
    obtain([Pupil(name="two")], store=store)
    assert log() == ["pupil one", "teacher", "pupil two", "teacher"]
    (aside,) = path.parent.glob("weights.damaged-*")
    assert aside.read_bytes() == harmed and path.exists()
    assert "damaged weights set aside" in (said := capsys.readouterr().err) and str(path) in said


def test_weights_of_earlier_versions_have_no_checksum_and_are_used(store, log):
    obtain([Pupil()], store=store)
    save_file({"weight": torch.ones(2)}, store.scratch(Teacher()) / "weights.safetensors")
    obtain([Pupil(name="two")], store=store)
    assert log().count("teacher") == 1


def test_weights_are_written_whole_or_not_at_all_and_by_one_process(store, monkeypatch):
    def crash(*words):
        raise KeyboardInterrupt

    session = Session(torch.device("cpu"), store, Teacher(), lambda part, text: None)
    with monkeypatch.context() as patch:
        patch.setattr(distributed, "is_main", lambda: False)
        session.save_weights(torch.nn.Linear(1, 1))
    assert not session.folder.exists()
    session.save_weights(torch.nn.Linear(1, 1))
    written = session.weights_path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            session.save_weights(torch.nn.Linear(9, 9))
    assert list(session.folder.iterdir()) == [session.weights_path] and session.weights_path.read_bytes() == written
    session.save_weights(torch.nn.Linear(9, 9))
    assert len(session.weights_path.read_bytes()) > len(written)


def test_numbers_are_cut_to_seven_digits_at_any_depth():
    inside = {"a": [1 / 3, float("nan")], "b": (float("inf"), {"c": 2 / 3}), "d": [1, True, None, "1/3"]}
    assert significant(inside) == {"a": [0.3333333, None], "b": (None, {"c": 0.6666667}), "d": [1, True, None, "1/3"]}


def test_results_can_be_selected_and_laid_out(store):
    results = obtain([Logged(name="one", rate=2.0), Logged(name="two"), Logged(name="two", seed=1)], store=store)
    assert [r.key for r in results.where(name="two", seed=1)] == [Logged(name="two", seed=1).key]
    frame = results.frame()
    assert frame["value"].tolist() == [2.0, 1.0, 2.0] and frame["name"].tolist() == ["one", "two", "two"]
    assert results.curves("loss")["step"].tolist() == [1, 2, 1, 2, 1, 2]


# Damage


def cut_short(path):
    path.write_bytes(path.read_bytes()[:100])


def edit_a_number(path):
    path.write_text(path.read_text().replace('"length": 3', '"length": 4'))


def rename(path):
    """Another Spec's result under this one's name."""
    other = json.loads(path.read_text())
    path.write_text(json.dumps(other | {"key": "0" * 16}))


def sealed(change):
    """A damage under a checksum of its own."""

    def damage(path):
        content = json.loads(path.read_text())
        del content["sha256"]
        change(content)
        path.write_text(json.dumps(content | {"sha256": checksum(content)}))

    return damage


def deeply_nested(path):
    path.write_text('{"a":' * 100_000)


def deeply_nested_and_sealed(path):
    content = json.loads(path.read_text())
    del content["sha256"]
    content["arrays"] = {"deep": json.loads("[" * 60 + "]" * 60)}
    path.write_text(json.dumps(content | {"sha256": checksum(content)}))


def too_large(path):
    path.write_text(path.read_text() + " " * LARGEST)


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        edit_a_number,
        rename,
        deeply_nested,
        deeply_nested_and_sealed,
        too_large,
        sealed(lambda content: content.update(schema=99)),
        sealed(lambda content: content["spec"].update(seed=7)),
        sealed(lambda content: content.pop("curves")),
        sealed(lambda content: content.update(metrics=[1])),
        sealed(lambda content: content.update(more={})),
        sealed(lambda content: content["provenance"].update(device=["x"])),
        sealed(lambda content: content["curves"].update(loss=3.0)),
        sealed(lambda content: content["metrics"].update(length=[3])),
    ],
)
@pytest.mark.parametrize("origin", ["own", "reference"])
def test_a_damaged_result_is_named_set_aside_and_run_again(store, log, capsys, damage, origin):
    spec = Logged(name="one")
    obtain([spec], store=store)
    if origin == "reference":
        (store.own / "results").rename(store.reference)
    path = store.path(spec) if origin == "own" else store.reference_path(spec)
    damage(path)
    text = path.read_bytes()
    assert obtain([spec], store=store)[0].metrics["length"] == 3
    assert log() == ["one 0", "one 0"]
    message = capsys.readouterr().err
    assert str(path) in message and ("git checkout" in message) == (origin == "reference")
    (aside,) = path.parent.glob(f"{spec.key}.damaged-*")
    assert aside.read_bytes() == text


def test_what_is_wrong_with_a_result_is_said(store, log):
    spec = Logged(name="one")
    obtain([spec], store=store)
    path = store.path(spec)
    sealed(lambda content: content.update(schema=99))(path)
    with pytest.raises(Damaged, match=f"{path}: its schema is 99, and this library reads 1: update the book"):
        read_result(path, "own")
    sealed(lambda content: content.update(schema=1) or content["spec"].update(seed=7))(path)
    with pytest.raises(Damaged, match="it is the result of another Spec: seed is 7, not 0"):
        check_spec(read_result(path, "own"), spec, path)


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.symlink_to(path), os.mkfifo])
def test_what_is_no_file_is_set_aside_too(store, log, make):
    spec = Logged(name="one")
    store.path(spec).parent.mkdir(parents=True)
    make(store.path(spec))
    assert obtain([spec], store=store)[0].metrics["length"] == 3
    assert len(list(store.path(spec).parent.glob(f"{spec.key}.damaged-*"))) == 1


def test_results_outlive_new_fields_at_any_depth(store, log):
    spec = Logged(name="one")
    obtain([spec], store=store)
    sealed(lambda content: content["spec"].pop("rate"))(store.path(spec))
    assert store.get(spec).metrics["length"] == 3
    old = {"runs": [{"type": "Run", "recipe": {"type": "Recipe", "lr": 1}}], "lr": [1, 2], "gone": 3}
    new = {"runs": [{"type": "Run", "recipe": {"type": "Recipe", "lr": 1, "more": 0}}], "lr": [1, 2], "new": 4}
    assert contradiction(old, new, "") is None
    new["runs"][0]["recipe"]["lr"] = 2
    assert contradiction(old, new, "") == "lr is 1, not 2"
    assert contradiction({"runs": [{"type": "Run"}]}, {"runs": [{"type": "Walk"}]}, "") == "type is 'Run', not 'Walk'"
    assert contradiction(old, new | {"lr": [1]}, "") in ("lr is [1, 2], not [1]", "lr is 1, not 2")


def test_texts_of_a_result_are_harmless_in_pages(store, log):
    spec = Logged(name="one")
    obtain([spec], store=store)
    evil = "<script>x</script> ![](http://a) `<b>`{=html} $\\href{a}$ & <"
    sealed(
        lambda content: (
            content["provenance"].update(device=evil, data={"name": "a", "variant": evil})
            or content["metrics"].update({evil: evil})
            or content["arrays"].update(told=[[evil]])
        )
    )(store.path(spec))
    result = store.get(spec)
    for text in (
        result.provenance["device"],
        result.provenance["data"]["variant"],
        *list(result.metrics)[-1:],
        result.metrics[harmless(evil)],
        result.arrays["told"][0][0],
        provenance_line([result]),
    ):
        assert not set("<>[]`$\\") & set(text) and html.unescape(text).count("<script>") >= 1


def test_a_result_in_the_wrong_folder_is_not_trusted(store):
    spec = Logged(name="one")
    obtain([spec], store=store)
    strange = store.path(spec).parent.with_name("test-strange")
    store.path(spec).parent.rename(strange)
    with pytest.raises(Damaged):
        read_result(strange / f"{spec.key}.json", "own")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_crash_while_writing_leaves_the_old_result_or_none(store, monkeypatch, step):
    spec, real = Logged(name="one"), getattr(os, step)

    def crash(*words):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, step, crash)
    with pytest.raises(KeyboardInterrupt):
        obtain([spec], store=store)
    assert list(store.path(spec).parent.iterdir()) == []

    monkeypatch.setattr(os, step, real)
    old = obtain([spec], store=store)[0]
    monkeypatch.setattr(os, step, crash)
    with pytest.raises(KeyboardInterrupt):
        obtain([spec], store=store, recompute=True)
    assert store.get(spec) == old
    assert list(store.path(spec).parent.iterdir()) == [store.path(spec)]


def test_parts_that_a_killed_process_left_are_removed_when_the_spec_is_run_again(store, log, monkeypatch):
    """Of this Spec and of no other, whose holder may be writing."""
    spec, other = Teacher(), Logged(name="one")
    left = []
    for one in (spec, other):
        for path in (store.scratch(one) / "weights.safetensors", store.scratch(one) / "state" / "training.safetensors", store.path(one)):
            with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch, replacing(path) as part:
                part.write_text("half of it")
                patch.setattr(type(part), "unlink", lambda *words, **more: None)  # nobody tidies up after kill -9
                raise KeyboardInterrupt
            left.append(part)
    kept = store.scratch(spec) / ".mine"
    kept.touch()
    assert all(part.exists() for part in left)
    obtain([spec], store=store)
    assert [part.exists() for part in left] == [False] * 3 + [True] * 3 and kept.exists()
    assert store.get(spec) is not None


# Sharing


def start(kind, folder, **environment):
    return subprocess.Popen(
        [sys.executable, SPECS_PROGRAM, kind, folder],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "LOG": str(folder / "log")} | environment,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, ran",
    [
        ("logged", sorted(f"{spec.name} 0" for spec in SETS["logged"])),
        ("pupils", ["pupil one", "pupil two", "teacher"]),
    ],
)
def test_two_processes_run_each_spec_once_between_them(tmp_path, kind, ran):
    both = [start(kind, tmp_path, PAUSE="0.3") for _ in range(2)]
    keys = " ".join(spec.key for spec in SETS[kind])
    assert [process.communicate(timeout=60)[0].strip() for process in both] == [keys, keys]
    assert sorted((tmp_path / "log").read_text().splitlines()) == ran


@pytest.mark.slow
def test_processes_of_one_torchrun_work_on_the_same_spec(python, tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
    done = python(*torchrun, SPECS_PROGRAM, "logged", tmp_path, LOG=tmp_path / "log", PYTHONPATH=ROOT)
    assert done.stdout.split() == [spec.key for spec in SETS["logged"]], done.stderr
    ran = (tmp_path / "log").read_text().splitlines()
    assert sorted(ran) == sorted(f"{spec.name} {rank}" for spec in SETS["logged"] for rank in (0, 1))
    result = Store(tmp_path / "reference", tmp_path / "own").get(SETS["logged"][0])
    assert result.provenance["processes"] == 2


@pytest.mark.slow
def test_no_process_of_a_torchrun_reads_weights_before_they_are_written(python, tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
    done = python(*torchrun, SPECS_PROGRAM, "pupils", tmp_path, LOG=tmp_path / "log", PAUSE="1", PYTHONPATH=ROOT)
    assert done.stdout.split() == [spec.key for spec in SETS["pupils"]], done.stderr


def test_a_store_that_cannot_be_written_fails_before_the_work(tmp_path, log):
    (tmp_path / "file").touch()
    store = Store(tmp_path / "reference", tmp_path / "file" / "runs")  # below a file: not even root can write there
    with pytest.raises(PermissionError, match="BOOK_RUNS"):
        obtain([Logged(name="one")], store=store)
    assert log() == []
    assert obtain([Logged(name="one")], store=store, cannot_run="no GPU").missing[0].reason == "no GPU"


@pytest.mark.parametrize("name", ["results", "checkpoints", "locks"])
def test_a_file_in_the_place_of_a_folder_is_named_before_the_work(store, log, name):
    store.own.mkdir()
    (store.own / name).touch()
    with pytest.raises(PermissionError, match=f"{name}: File exists.*BOOK_RUNS"):
        obtain([Logged(name="one")], store=store)
    assert log() == []


# Provenance


def test_a_result_says_where_it_comes_from(store):
    result = obtain([Logged(name="one")], store=store, device="cpu")[0]
    assert {"commit", "dirty", "started", "device", "device_type", "python", "torch", "cuda", "seconds", "data"} <= result.provenance.keys()
    assert result.provenance["data"] == {"name": "none"} and result.provenance["device_type"] == "cpu"
    assert result.spec["seed"] == 0 and result.spec["rate"] == 1


def test_changed_code_is_recorded(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    commit = provenance.commit.__wrapped__
    assert commit() == {"commit": None, "dirty": None}
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.py").write_text("a = 1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    (tmp_path / "notes.md").write_text("outside lib: no number depends on it\n")
    clean = commit()
    assert len(clean["commit"]) == 40 and clean["dirty"] is False
    (tmp_path / "lib" / "a.py").write_text("a = 2\n")
    assert commit() == {"commit": clean["commit"], "dirty": True}
