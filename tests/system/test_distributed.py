"""Two processes started by torchrun compute what one computes.

Run as a script, under ``torchrun``, this file is the processes' program.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.system import distributed
from lib.training import loop as train
from lib.training.loop import Recipe, fit

ROOT = Path(__file__).resolve().parents[2]


class Points:
    """Batches of 8 points in 6 dimensions with classes, the same in every process."""

    steps = 5

    def batch(self, epoch, step):
        generator = torch.Generator().manual_seed(100 * epoch + step)
        inputs = torch.randn(8, 6, generator=generator)
        return inputs, (inputs[:, :4].argmax(1))


class Net(nn.Module):
    """A network that uses its parts unevenly, as elastic models do, and through another method than forward."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second, self.third = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.never, self.head = nn.Linear(16, 16), nn.Linear(16, 4)
        self.register_buffer("seen", torch.zeros(()))

    def run(self, inputs):
        hidden = self.first(inputs).relu()
        self.seen += inputs.detach().mean()
        # Which layer follows depends on the data, so the processes differ in it.
        layer = self.second if inputs.sum() > 0 else self.third
        return self.head(hidden + layer(hidden).tanh())


class Even(Net):
    """The same for every share of a batch: what one process computes is what two must."""

    def run(self, inputs):
        return self.head(self.second(self.first(inputs).relu()).tanh())


def loss(model, inputs, targets):
    logits = model.run(inputs)
    return F.cross_entropy(logits, targets), {"correct": (logits.argmax(1) == targets).float().mean()}


CASES = {
    "adamw": Recipe(epochs=3, batch_size=8, lr=1e-2, ema=0.9),
    "sgd": Recipe(epochs=3, batch_size=8, lr=0.1, optimizer="sgd", clip=0.1),
    "muon": Recipe(epochs=3, batch_size=8, lr=1e-2, optimizer="muon"),
}


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def train_case(name, folder, model_seed=0):
    """Train, be killed after the second epoch by every process at once, and go on; all of it must agree."""
    model, told = Even(model_seed), []

    def report(part, text):
        told.append(part)
        if folder and part == 2 / 3:
            raise KeyboardInterrupt

    arguments = dict(seed=4, checkpoint=folder, evaluate=lambda m: {"norm": m.head.weight.norm()})
    if folder:
        with pytest.raises(KeyboardInterrupt):
            fit(model, Points(), loss, CASES[name], report=report, **arguments)
        model = Even(50 + model_seed)
    history = fit(model, Points(), loss, CASES[name], **arguments)
    return weights(model), {name: curve for name, curve in history.curves.items() if name != "seconds"}


def process(folder: Path):
    """What each of the two processes does; its findings go to a file."""
    torch.set_num_threads(1)
    train.SAVE_EVERY_SECONDS = 0.0
    distributed.setup()
    rank, found = distributed.rank(), {}
    found["identity"] = (rank, distributed.world_size(), distributed.is_main())
    found["broadcast"] = distributed.broadcast({"from": rank})
    # Weights differ at the start: the main process's count.
    found["cases"] = {name: train_case(name, folder / name, model_seed=rank) for name in CASES}

    model = Net(seed=rank)
    history = fit(model, Points(), loss, Recipe(epochs=2, batch_size=8), seed=0)
    found["uneven"], found["uneven_epochs"] = weights(model), history.epochs
    found["never"] = model.never.weight.grad is None

    model = Net(seed=0)
    inputs = torch.ones(4, 6) if rank == 0 else -torch.ones(4, 6)
    model.run(inputs).sum().backward()
    distributed.average_gradients(model.parameters())
    found["gradients"] = {name: p.grad for name, p in model.named_parameters()}

    def bad(model, inputs, targets):
        value, logged = loss(model, inputs, targets)
        return value * (float("nan") if rank == 1 else 1.0), logged

    found["diverged_at"] = fit(Even(), Points(), bad, CASES["sgd"], seed=0).diverged_at

    for size, name in ((7, "shard"), (8, "whole")):
        try:
            found[name] = distributed.shard(torch.arange(size))
        except ValueError as error:
            found[name] = str(error)
    try:
        fit(Even(), Points(), loss, Recipe(epochs=1, batch_size=9), seed=0)
    except ValueError as error:
        found["recipe"] = str(error)
    distributed.barrier()
    torch.save(found, folder / f"{rank}.pt")
    distributed.shutdown()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_like_one(found, name):
    expected, curves = train_case(name, None)
    for process_found in found:
        got, got_curves = process_found["cases"][name]
        for key in expected:
            # Muon rounds its matrices to bfloat16, which turns a last-bit difference into a larger one.
            torch.testing.assert_close(got[key], expected[key], rtol=0, atol=5e-4 if name == "muon" else 1e-6)
        assert got_curves.keys() == curves.keys()
        for key in curves:
            assert got_curves[key] == pytest.approx(curves[key], abs=1e-3 if name == "muon" else 1e-5)


def test_processes_end_with_the_same_numbers(found):
    first, second = found
    for name in CASES:
        assert first["cases"][name][1] == second["cases"][name][1]
        for key, value in first["cases"][name][0].items():
            assert torch.equal(value, second["cases"][name][0][key])
    for key, value in first["uneven"].items():
        assert torch.equal(value, second["uneven"][key]), key
    assert first["uneven_epochs"] == 2


def test_a_parameter_one_process_did_not_use_counts_as_zero_there(found):
    first, second = (f["gradients"] for f in found)
    alone = Net(seed=0)
    alone.run(torch.ones(4, 6)).sum().backward()
    for gradients in (first, second):
        torch.testing.assert_close(gradients["second.weight"], alone.second.weight.grad / 2)
        assert gradients["third.weight"].any()
        assert gradients["never.weight"] is None and gradients["never.bias"] is None


def test_processes_know_themselves(found):
    assert [f["identity"] for f in found] == [(0, 2, True), (1, 2, False)]
    assert [f["broadcast"] for f in found] == [{"from": 0}, {"from": 0}]


def test_divergence_in_one_process_ends_all(found):
    assert [f["diverged_at"] for f in found] == [1, 1]


def test_shares_are_equal_or_an_error(found):
    assert [f["whole"].tolist() for f in found] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    for f in found:
        assert "batch of 7" in f["shard"] and "2 processes" in f["shard"]
        assert "batch of 9" in f["recipe"]


def test_one_process_needs_no_setup():
    distributed.setup()
    assert not distributed.is_running() and distributed.world_size() == 1 and distributed.is_main()
    assert distributed.broadcast("x") == "x"
    batch = torch.arange(3)
    assert torch.equal(distributed.shard(batch), batch)
    model = nn.Linear(2, 2)
    distributed.average_gradients(model.parameters())
    assert model.weight.grad is None
    distributed.barrier()
    distributed.shutdown()


if __name__ == "__main__":
    process(Path(sys.argv[1]))
