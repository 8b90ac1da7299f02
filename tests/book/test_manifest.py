"""The manifests in data/editions name what is committed, and nothing else."""

import json
import re

import pytest

from lib import ROOT
from lib.book.manifest import device_name, manifest, specs_of, write_manifests
from lib.runs.scales import REFERENCE_SCALES
from lib.runs.store import Store
from lib.studies import CHAPTERS, chapter

FOLDER = ROOT / "data" / "editions"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The committed results, without anybody's own."""
    return Store(ROOT / "data" / "results", tmp_path_factory.mktemp("own"))


@pytest.mark.parametrize("scale", REFERENCE_SCALES)
def test_the_committed_manifest_is_fresh(scale, store):
    made = manifest(scale, CHAPTERS, store)
    written = [content for path in FOLDER.glob("*.json") if (content := json.loads(path.read_text()))["scale"] == scale]
    assert written == ([made] if made else []), "run `make edition`: it writes the manifests"


def test_a_manifest_is_called_by_its_date_and_device():
    for path in FOLDER.glob("*.json"):
        content = json.loads(path.read_text())
        assert path.stem == f"{content['date']}-{content['name']}"
    assert device_name("NVIDIA H200") == "h200"


def test_the_data_folder_says_which_variants_the_edition_has():
    told = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    (paragraph,) = (text for text in told.split("\n\n") if text.startswith("The reference edition has results of CIFAR-10"))
    found = {
        re.sub(r", \d+ of .*", "", data["variant"])
        for path in FOLDER.glob("*.json")
        for data in json.loads(path.read_text())["data"]
        if data["name"] == "cifar10"
    }
    assert set(re.findall(r"`((?:parquet|official)[^`]*)`", paragraph)) == found


def test_every_committed_result_belongs_to_an_edition():
    committed = {
        path.relative_to(ROOT / "data" / "results").with_suffix("").as_posix() for path in (ROOT / "data" / "results").glob("*/*.json")
    }
    named = {f"{spec.experiment}/{spec.key}" for scale in REFERENCE_SCALES for chapter in CHAPTERS for spec in specs_of(chapter, scale)}
    assert not committed - named, "no chapter names these results any more: remove them"


def test_an_older_manifest_of_the_scale_gives_way(tmp_path, store):
    chapters = [chapter("privacy")]
    older = tmp_path / "2020-01-01-cpu.json"
    older.write_text(json.dumps({"scale": "cpu"}))
    other = tmp_path / "2020-01-01-b1.json"
    other.write_text(json.dumps({"scale": "another"}))
    written = write_manifests(tmp_path, chapters, store)
    assert written and not older.exists() and other.exists()
    before = [path.stat().st_mtime_ns for path in written]
    assert [path.stat().st_mtime_ns for path in write_manifests(tmp_path, chapters, store)] == before
