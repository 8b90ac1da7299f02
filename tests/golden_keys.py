"""The names of all results, study by study, as the book had them; ``python tests/golden_keys.py`` writes them anew.

Moving or renaming code must not change a name: stored results are found by it.  Run this only where studies are meant to
ask for other results than before.
"""

import hashlib
import json
from pathlib import Path

from lib.runs.scales import SCALES
from lib.studies import CHAPTERS

FILE = Path(__file__).with_suffix(".json")


def all_studies():
    """``"moe cpu accuracy"`` → its Specs."""
    return {
        f"{chapter.subject} {scale} {study}": specs
        for chapter in CHAPTERS
        for scale in SCALES
        for study, specs in chapter.module.studies(chapter.module.Parameters(scale=scale)).items()
    }


def digests(studies):
    """Of each study: how many results, and a hash of their names in order."""
    return {
        name: f"{len(specs)} {hashlib.sha256(' '.join(spec.key for spec in specs).encode()).hexdigest()[:16]}"
        for name, specs in studies.items()
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(digests(all_studies()), indent=0) + "\n")
