"""The tickets chapter on a checkpoint: every Spec runs on a tiny one of the same architecture, and CoLA has a measure of its own."""

from dataclasses import fields, is_dataclass, replace

import pandas as pd
import pytest
import torch

from lib.data.sentences import SETS
from lib.measure.statistics import NotTestable
from lib.models import pretrained
from lib.models.encoder_pretrained import special_last
from lib.runs.results import Result, Results, Unavailable
from lib.runs.spec import Spec, all_fields
from lib.runs.store import Session, Store, obtain
from lib.studies.tickets import checkpoint, claims, needs, pretrain
from lib.studies.tickets.checkpoint import Checkpoint, CheckpointRun
from lib.studies.tickets.counted import uncounted
from lib.studies.tickets.finetune import FinetuneRun
from lib.studies.tickets.lth import IterativeRun, SubnetworkRun
from lib.studies.tickets.studies import Parameters, studies
from lib.studies.tickets.text import material, task_of
from lib.studies.tickets.words import BagOfWordsRun
from lib.studies.tickets.words_head import WordsHeadRun
from lib.training.loop import Recipe
from word_pieces import word_pieces

PARENT = CheckpointRun()


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A tiny checkpoint, and a few rows of every task."""
    pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[language]'")
    loaded = pretrained.tiny("minilm", word_pieces())
    opened = loaded, *special_last(loaded.tokenizer)
    monkeypatch.setattr(checkpoint, "opened", lambda name: opened)
    for name, files in {"sst2": ("train.tsv", "dev.tsv"), **{name: about.files for name, about in SETS.items()}}.items():
        home = tmp_path / name
        home.mkdir()
        classes = SETS[name].classes if name in SETS else 2
        for file, count in zip(files, (80, 40)):
            rows = [f"{file} bear {i} sees {'a film ' * (i % 4)}\t{i % classes}" for i in range(count)]
            (home / file).write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    books = tmp_path / "childrens_books"
    books.mkdir()
    for split in ("train", "validation"):
        passages = [f"who sees a film ? the bear sees {'a bear and ' * (i % 5)}the films ?" for i in range(60)]
        pd.DataFrame({"text": passages}).to_parquet(books / f"{split}.parquet")
    monkeypatch.setenv("BOOK_DATA", str(tmp_path))
    monkeypatch.setattr(pretrain, "EVALUATED", 64)
    for cached in (task_of, material):
        cached.cache_clear()
    yield
    for cached in (task_of, material):
        cached.cache_clear()


def shrunk(value):
    if not is_dataclass(value):
        return value
    few = {
        "epochs": 1,
        "batch_size": 8,
        "train": 16,
        "looked": 8,
        "rounds": 2,
        "batches": (1, 4),
        "checks": 2,
        "sparsities": (0.3, 0.7),
        "steps": 2,
    }
    return replace(value, **{field.name: few.get(field.name, shrunk(getattr(value, field.name))) for field in fields(value)})


@pytest.mark.parametrize("study", studies(Parameters(scale="cpu", pretrained=True)))
def test_every_study_runs_on_a_tiny_checkpoint(study, small, tmp_path_factory):
    kinds = {}
    for spec in studies(Parameters(scale="cpu", pretrained=True))[study]:
        told = [getattr(spec, name, None) for name in ("task", "masks", "how", "draw", "start", "choice")]
        kinds.setdefault((type(spec), *told), shrunk(spec))
    store = Store(tmp_path_factory.mktemp("reference"), tmp_path_factory.getbasetemp() / "tickets-checkpoint")
    found = obtain(kinds.values(), store=store)
    assert len(found) == len(set(kinds.values())) and not found.missing
    for r in found:
        assert ("test_matthews" in r.metrics) == (r.spec.get("task") == "cola")


def test_a_checkpoint_is_loaded_as_it_is_and_needs_no_run_before_it(small, tmp_path):
    store = Store(tmp_path / "reference", tmp_path / "runs")
    (found,) = obtain([PARENT], store=store)
    assert found.metrics["difference"] < 1e-4 and found.provenance["data"]["name"] == "minilm"
    assert PARENT.builds_on == () and FinetuneRun(parent=PARENT, task="trec").builds_on == (PARENT,)
    assert needs.shape(needs.pretraining(all_fields(FinetuneRun(parent=PARENT, task="trec")))) == (6, 12)


def test_where_the_checkpoint_is_missing_its_runs_are_and_say_why(tmp_path, monkeypatch):
    def missing(name):
        raise Unavailable(f"{name} is not on this machine")

    monkeypatch.setattr(checkpoint, "opened", missing)
    found = obtain(
        studies(Parameters(scale="cpu", pretrained=True))["finetune"][:1], store=Store(tmp_path / "reference", tmp_path / "runs")
    )
    assert not len(found) and "not on this machine" in found.missing[0].reason


def test_tasks_of_stories_are_not_a_checkpoints(small):
    with pytest.raises(Unavailable, match="made from stories"):
        Checkpoint().task("order", 10)
    with pytest.raises(ValueError, match="'minilm'"):
        Checkpoint("minilmm")


def result(spec: Spec, metrics, curves=None) -> Result:
    return Result(spec.experiment, spec.key, all_fields(spec), metrics, curves or {}, {}, {"device": "none"})


def runs(task="cola", own=0.5, other=0.4, words=0.1, scratch=0.05):
    """A whole network, its rivals, a ticket and its transfer, each with a Matthews' correlation and one and the same accuracy."""

    def scores(value, prefix=""):
        return {f"{prefix}{split}_{name}": number for split in ("val", "test") for name, number in (("accuracy", 0.7), ("matthews", value))}

    ticket, other_ticket = (IterativeRun(parent=PARENT, task=name, sparsities=(0.5, 0.7)) for name in (task, "trec"))
    found = result(ticket, scores(own) | scores(0.55, "dense_"), {"sparsity": [0, 0.5, 0.7], "test_matthews": [0.55, 0.52, own]})
    moved = result(SubnetworkRun(parent=PARENT, task=task, ticket=other_ticket), scores(other))
    return {
        "tickets": Results((found,)),
        "transfer": Results((moved,)),
        "words": Results((result(BagOfWordsRun(task=task), scores(words)),)),
        "from-scratch": Results((result(FinetuneRun(parent=PARENT, task=task, start="random"), scores(scratch)),)),
    }


def test_cola_is_judged_by_matthews_correlation():
    found = runs()
    assert uncounted(found) == {}
    assert claims.own_minus_other_tasks(found) == {"CoLA": pytest.approx([0.1])}
    assert claims.whole_minus_ticket(found) == {"CoLA": pytest.approx([0.03])}
    assert "Matthews' correlation of 55.0%, counting words 60.0%" in uncounted(runs(words=0.6))["cola"]


def test_a_claim_about_masked_words_needs_a_network_that_guesses_them():
    found = runs()

    def with_words(accuracy):
        words = result(IterativeRun(parent=WordsHeadRun(parent=PARENT), task="mlm"), {"dense_val_accuracy": accuracy})
        return found | {"tickets": Results((*found["tickets"], words))}

    with pytest.raises(NotTestable, match="no ticket was sought"):
        needs.masked_words_are_guessed(found)
    with pytest.raises(NotTestable, match="guesses 8.0% of the hidden words"):
        needs.masked_words_are_guessed(with_words(0.08))
    needs.masked_words_are_guessed(with_words(0.4))
    needs.masked_words_are_guessed(found | {"tickets": Results(())})  # nothing was run: that is said elsewhere


def test_a_new_head_leaves_the_checkpoint_as_it_is(small, tmp_path):
    spec = shrunk(WordsHeadRun(parent=PARENT, recipe=Recipe(lr=0.1)))
    session = Session(torch.device("cpu"), Store(tmp_path / "reference", tmp_path / "runs"), spec, lambda part, text: None)
    headed, bare = spec.load(session), PARENT.load(session)
    for (name, trained), (_, before) in zip(headed.encoder.named_parameters(), bare.encoder.named_parameters(), strict=True):
        assert torch.equal(trained, before) and trained.requires_grad, name
    assert not torch.equal(headed.transform.weight, bare.transform.weight)
    assert (spec.pad, spec.geometry, spec.source) == (PARENT.pad, PARENT.geometry, PARENT.source)
