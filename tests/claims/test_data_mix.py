"""No table, figure or claim mixes results of two variants of one data set."""

import pytest

from lib import ROOT
from lib.book.page import ChapterRun
from lib.claims.entries import claims
from lib.claims.judge import judge
from lib.claims.mix import MixedData, check_unmixed
from lib.claims.origin import provenance_line
from lib.data.titles import title
from lib.runs.replay import Edition
from lib.runs.results import Outcome, Result, Results
from lib.runs.store import Store
from lib.studies import CHAPTERS
from store_specs import SETS

JPEG = {"name": "cifar10", "variant": "parquet, JPEG re-encoding", "fingerprint": "e8", "train": 100, "validation": 10, "test": 10}
EXACT = JPEG | {"variant": "parquet, lossless", "fingerprint": "ab"}
STORIES = {"name": "tinystories", "variant": "sample of 4043 stories", "fingerprint": "1d", "vocabulary": 512, "train": 3841}


def result(data, seed=0):
    spec = SETS["logged"][seed]
    return Result.of(spec, Outcome({"accuracy": 0.5}, data=data), {"device": "CPU", "torch": "2.11", "commit": "a" * 40, "dirty": False})


@pytest.mark.parametrize(
    "others",
    [JPEG | {"train": 50}, {"name": "digits", "variant": "embedded", "fingerprint": "d1", "train": 5}, {}, EXACT | {"fingerprint": "e8"}],
)  # the same pixels in another file
def test_what_was_made_from_the_same_or_from_another_data_set_may_stand_together(others):
    check_unmixed([result(JPEG), result(others)])


@pytest.mark.parametrize(
    "one, other",
    [
        (JPEG, EXACT),
        (JPEG, EXACT | {"train": 50}),
        (JPEG, JPEG | {"fingerprint": "00"}),
        (STORIES, STORIES | {"fingerprint": "00"}),
        (STORIES, STORIES | {"variant": "official", "vocabulary": 4096, "train": 10**6}),
    ],
)
def test_two_variants_of_a_data_set_may_not(one, other):
    with pytest.raises(MixedData, match=f"two variants of {title(one['name'])}.*{one['variant']}.*{other['variant']}"):
        check_unmixed([result(one), result({}), result(other)])
    with pytest.raises(MixedData):
        provenance_line([result(one), result(other)])


@pytest.mark.parametrize(
    "other",
    [
        STORIES | {"vocabulary": 4096, "fingerprint": "ab"},
        STORIES | {"train": 100, "fingerprint": "cd"},
        STORIES | {"variant": "sample of 4043 stories, in Pig Latin", "fingerprint": "1a"},
    ],
)
def test_stories_in_other_tokens_in_part_or_translated_may_be_compared(other):
    check_unmixed([result(STORIES), result(other)])


def test_a_claim_on_mixed_data_is_not_judged():
    claim = next(iter(claims().values()))
    studies = {study: Results((result(JPEG), result(EXACT))) for study in claim.study}
    verdict = judge(claim, studies)
    assert verdict.verdict == "not testable" and "two variants of CIFAR-10" in verdict.text


def test_a_chapter_shows_no_mixed_study(tmp_path):
    run = ChapterRun("moe", CHAPTERS[0].module.Parameters(scale="smoke"), store=Store(tmp_path / "reference", tmp_path / "own"))
    run.specs = {"study": SETS["logged"][:2]}
    for seed, data in enumerate((JPEG, EXACT)):
        run.store.put(run.specs["study"][seed], result(data, seed))
    with pytest.raises(MixedData):
        run.results("study")


@pytest.mark.parametrize("chapter", CHAPTERS, ids=[chapter.slug for chapter in CHAPTERS])
def test_the_edition_mixes_nothing(chapter):
    """Neither within a study nor within what a claim reads."""
    edition = Edition(chapter.module, Store(ROOT / "data" / "results", ROOT / "nowhere"))
    for scale in ("cpu", "gpu"):
        for specs in edition.specs(scale).values():
            check_unmixed(edition.replay(specs))
    for claim in claims().values():
        if claim.subject == chapter.subject:
            check_unmixed(r for results in edition.results(claim.study).values() for r in results)
