"""Every kind of what is to be run on a GPU runs on a CPU, made small, by the code that the GPU will run as far as a CPU has it.

bf16 by autocast, channels last, grouped products by their fallback, and compilation without a C++ compiler.  The Triton kernel runs
in its interpreter in ``tests/attention/test_attention_engines.py``.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lib.runs.store import Store, obtain
from lib.studies.base.kinds import kinds
from shrinking import shrunk
from small_data import forget, use_small_data

#: Experiments that no small run stands for, and why.
LEFT_OUT = {
    "growth-presets": "builds the student project's networks of up to 1.6 billion parameters, and has no smaller ones; it is stored at cpu",
    "distillation-transition": "begins at a test image that student and teacher both get right, and untrained ones agree on none",
}

#: Packages without which an experiment is unavailable, as it says itself.
PACKAGES = {"pruning-torchao": "torchao", "language-torchao": "torchao"}

KINDS = kinds("gpu")
SUBJECTS = sorted({subject for subject, _ in KINDS.values()})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Small data for all of a module's tests, and one store, so that what many build on is trained once."""
    pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[language]'")
    folder = tmp_path_factory.mktemp("gpu")
    (folder / "data").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        use_small_data(folder / "data", patch)
        compiled = torch.compile
        patch.setattr(torch, "compile", lambda function, **options: compiled(function, backend="eager", dynamic=options.get("dynamic")))
        yield Store(folder / "none", folder / "own")
    forget()


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_kind_runs(subject, store):
    failed = {}
    for spec in [spec for one, spec in KINDS.values() if one == subject and spec.experiment not in LEFT_OUT]:
        try:
            found = obtain([shrunk(spec)], store=store, device="cpu")
        except Exception as error:  # all that fail are named, not the first alone
            failed[spec.label] = f"{type(error).__name__}: {error}"
            continue
        for missing in found.missing:
            if PACKAGES.get(spec.experiment, "?") not in missing.reason:
                failed[spec.label] = missing.reason
    assert not failed


COMPILED = {spec.experiment: spec for _, spec in KINDS.values() if getattr(getattr(spec, "recipe", None), "compile", False)}


@pytest.mark.parametrize("experiment", COMPILED)
def test_what_is_compiled_runs_compiled(experiment, store):
    spec = shrunk(COMPILED[experiment])
    assert not obtain([replace(spec, recipe=replace(spec.recipe, compile=True))], store=store, device="cpu").missing


def test_what_is_left_out_is_there():
    experiments = {spec.experiment for _, spec in KINDS.values()}
    assert set(LEFT_OUT) <= experiments and set(PACKAGES) <= experiments


def test_small_specs_are_of_the_same_kind():
    """A Spec that shrank into another one would prove nothing."""
    for subject, spec in KINDS.values():
        small = shrunk(spec)
        assert type(small) is type(spec) and small.experiment == spec.experiment, subject
