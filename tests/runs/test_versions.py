"""A result says whether it was made with the pinned versions."""

from importlib import metadata

import pytest
import torch

from lib.runs import versions
from lib.runs.provenance import provenance


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """Writes a lock and returns what it is called where the versions here are those of the lock."""
    monkeypatch.setattr(versions, "ROOT", tmp_path)

    def write(*lines):
        (tmp_path / "requirements.lock").write_text("".join(f"{line} \\\n    --hash=sha256:00\n" for line in lines))
        versions.lock.cache_clear()
        return versions.lock()

    yield write
    versions.lock.cache_clear()


def test_the_same_versions_have_a_name_and_others_have_none(locked):
    numpy = metadata.version("numpy")
    name = locked(f"numpy=={numpy}", "no-such-package==1.0")
    assert len(name) == 16 and name == locked(f"numpy=={numpy}", "no-such-package==1.0")
    assert locked(f"numpy=={numpy}") != name
    assert locked("numpy==0.1") is None
    assert locked("NumPy==0.1 ; python_full_version < '3'", f"numpy=={numpy}") is not None  # once per platform
    assert locked(f"torch=={torch.__version__.partition('+')[0]}") is not None  # a build for CPUs is no other version


def test_provenance_says_it(locked):
    name = locked(f"numpy=={metadata.version('numpy')}")
    assert provenance(torch.device("cpu"))["lock"] == name
    versions.lock.cache_clear()
    (versions.ROOT / "requirements.lock").unlink()
    assert provenance(torch.device("cpu"))["lock"] is None
