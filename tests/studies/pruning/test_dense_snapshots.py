"""Weights kept during training survive a stop, and one that is damaged or gone is noticed: training starts again."""

import pytest
import torch
from safetensors.torch import load_file

from lib.models.mlp import MLPConfig
from lib.runs.store import Store, obtain
from lib.studies.pruning import dense
from lib.studies.pruning.dense import DenseRun
from lib.training import loop
from lib.training.loop import Recipe

SPEC = DenseRun(model=MLPConfig(64, (8,)), train_examples=128, snapshots=(0, 3), recipe=Recipe(epochs=4, batch_size=64, lr=0.01))


def stores(folder):
    return Store(folder / "reference", folder / "own")


def weights(store):
    return load_file(store.scratch(SPEC) / "weights.safetensors")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    store = stores(tmp_path_factory.mktemp("undisturbed"))
    return obtain([SPEC], store=store, device="cpu")[0], weights(store)


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A store in which training was stopped after its third epoch, step 6."""
    store, seen, real = stores(tmp_path), [], dense.scored

    def stopping(*words):
        seen.append(words)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return real(*words)

    monkeypatch.setattr(loop, "SAVE_EVERY_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(dense, "scored", stopping)
        with pytest.raises(KeyboardInterrupt):
            obtain([SPEC], store=store, device="cpu")
    return store, store.scratch(SPEC) / "state"


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("step", [0, 3])
@pytest.mark.parametrize("harm, says", [(None, ""), (cut, "is removed"), (flip, "is removed"), (lambda path: path.unlink(), "is gone")])
def test_a_stopped_run_ends_with_all_its_snapshots(stopped, undisturbed, capsys, step, harm, says):
    store, state = stopped
    path = dense.snapshot(state, step)
    assert path.exists() and (state / "training.safetensors").exists()
    if harm:
        harm(path)
    result = obtain([SPEC], store=store, device="cpu")[0]
    said = capsys.readouterr().err
    # The first weights are written anew by each process, so that nothing has to be done about them.
    assert (says in said and str(path) in said) if harm and step else said == ""
    expected, tensors = undisturbed
    assert result.metrics["test_loss"] == expected.metrics["test_loss"] and result.curves["val_loss"] == expected.curves["val_loss"]
    found = weights(store)
    assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert {name.partition(".")[0] for name in found} > {"step0", "step3"} and not state.exists()


def test_training_that_diverged_before_a_snapshot_has_none_of_it(tmp_path):
    spec = DenseRun(
        model=MLPConfig(64, (8,)), train_examples=128, snapshots=(0, 6), recipe=Recipe(epochs=4, batch_size=64, lr=1e30, warmup=0.0)
    )
    store = stores(tmp_path)
    assert obtain([spec], store=store, device="cpu")[0].metrics["diverged"]
    assert {name.partition(".")[0] for name in load_file(store.scratch(spec) / "weights.safetensors")} & {"step0", "step6"} == {"step0"}
