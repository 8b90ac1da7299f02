"""The four ways to run experts compute the same, forward and backward, whatever the routing."""

import itertools
import sys

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from lib.measure.cost import flops
from lib.moe import expert_memory
from lib.moe.backend_cost import backend_cost
from lib.moe.backends import BACKENDS, fastest
from lib.moe.experts import Experts
from lib.moe.roofline import Cost, dense_cost, expert_cost

T, E = 37, 5
CPU = torch.device("cpu")


def routed(kind: str, k: int, experts: int = E, tokens: int = T) -> torch.Tensor:
    generator = torch.Generator().manual_seed(k)
    expert_TK = torch.rand(tokens, experts, generator=generator).argsort(dim=1)[:, :k]
    if kind == "some dropped":
        expert_TK[torch.rand(tokens, k, generator=generator) < 0.4] = -1
    if kind == "all dropped":
        expert_TK[:] = -1
    if kind == "empty experts":
        expert_TK = expert_TK % max(1, experts - 2) + 1
    if kind == "one expert":
        expert_TK[:] = experts - 1
    return expert_TK


def everything(
    backend: str,
    expert_TK: torch.Tensor,
    d: int = 12,
    h: int = 20,
    activation: str = "gelu",
    dtype: torch.dtype = torch.float32,
    autocast: bool = False,
    experts: int = E,
) -> dict[str, torch.Tensor]:
    """Output and all gradients, by name."""
    torch.manual_seed(0)
    module = Experts(experts, d, h, activation, backend)
    torch.nn.init.normal_(module.b_in)
    torch.nn.init.normal_(module.b_out)
    x, gate, grad = torch.randn(len(expert_TK), d), torch.rand(expert_TK.shape), torch.randn(len(expert_TK), d)
    module, x, gate = module.to(dtype), x.to(dtype).requires_grad_(), gate.to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = module(x, expert_TK, gate)
    y.backward(grad.to(y.dtype))
    return {"y": y.detach(), "x": x.grad, "gate": gate.grad} | {n: p.grad for n, p in module.named_parameters()}


def straightforward(expert_TK: torch.Tensor, d: int = 12, h: int = 20) -> torch.Tensor:
    """The definition, token by token, for the same weights and inputs as :func:`everything`."""
    torch.manual_seed(0)
    module = Experts(E, d, h)
    torch.nn.init.normal_(module.b_in)
    torch.nn.init.normal_(module.b_out)
    x, gate = torch.randn(len(expert_TK), d), torch.rand(expert_TK.shape)
    y = torch.zeros_like(x)
    for t, k in itertools.product(range(len(expert_TK)), range(expert_TK.shape[1])):
        e = expert_TK[t, k]
        if e >= 0:
            hidden = F.gelu(x[t] @ module.w_in[e] + module.b_in[e])
            y[t] += gate[t, k] * (hidden @ module.w_out[e] + module.b_out[e])
    return y.detach()


def close(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    for name, tensor in wanted.items():
        assert got[name].shape == tensor.shape
        error = (got[name].double() - tensor.double()).abs().max()
        assert error <= tolerance * max(1, tensor.abs().max()), f"{name}: off by {error}"


KINDS = ("balanced", "some dropped", "all dropped", "empty experts", "one expert")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 2, 4])
def test_loop_is_the_definition(kind, k):
    expert_TK = routed(kind, k)
    assert torch.allclose(everything("loop", expert_TK)["y"], straightforward(expert_TK), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["einsum", "bmm", "grouped", "auto"])
def test_backends_agree_in_outputs_and_all_gradients(backend, kind):
    for k, activation in itertools.product((1, 2, 3, 4), ("gelu", "relu")):
        expert_TK = routed(kind, k)
        close(everything(backend, expert_TK, activation=activation), everything("loop", expert_TK, activation=activation))


@pytest.mark.parametrize("backend", ["einsum", "bmm", "grouped", "auto"])
@pytest.mark.parametrize("d, h", [(7, 13), (300, 10), (1, 1), (16, 33)])
def test_backends_agree_for_widths_that_fit_no_alignment(backend, d, h):
    expert_TK = routed("some dropped", 2)
    close(everything(backend, expert_TK, d, h), everything("loop", expert_TK, d, h))


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_expert_is_an_ordinary_ffn(backend):
    module = Experts(1, 6, 10, backend=backend)
    x, zero = torch.randn(9, 6), torch.zeros(9, 1, dtype=torch.int64)
    expected = F.gelu(x @ module.w_in[0] + module.b_in[0]) @ module.w_out[0] + module.b_out[0]
    assert torch.allclose(module(x, zero, torch.ones(9, 1)), expected, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_gradients_against_finite_differences(backend, activation):
    torch.manual_seed(0)
    module = Experts(3, 4, 5, activation, backend).double()
    x, gate = torch.randn(6, 4, dtype=torch.float64), torch.rand(6, 2, dtype=torch.float64)
    expert_TK = torch.tensor([[0, 1], [2, -1], [1, 0], [-1, -1], [0, 2], [2, 1]])
    names = [name for name, _ in module.named_parameters()]

    def run(x, gate, *weights):
        return torch.func.functional_call(module, dict(zip(names, weights)), (x, expert_TK, gate))

    inputs = [t.detach().requires_grad_() for t in (x, gate, *module.parameters())]
    assert gradcheck(run, inputs)


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
def test_double_precision(backend):
    expert_TK = routed("some dropped", 2)
    got = everything(backend, expert_TK, dtype=torch.float64)
    assert all(tensor.dtype == torch.float64 for tensor in got.values())
    close(got, everything("loop", expert_TK, dtype=torch.float64), 1e-12)


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
@pytest.mark.parametrize("d", [16, 300])
@pytest.mark.parametrize("autocast", [True, False])
def test_bfloat16(backend, d, autocast):
    expert_TK = routed("some dropped", 2)
    exact = everything("loop", expert_TK, d)
    got = everything(backend, expert_TK, d, dtype=torch.float32 if autocast else torch.bfloat16, autocast=autocast)
    assert got["y"].dtype == torch.bfloat16
    assert got["w_in"].dtype == (torch.float32 if autocast else torch.bfloat16)
    for name, tensor in exact.items():
        assert (got[name].float() - tensor).norm() <= 0.02 * tensor.norm(), name


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropped_assignments_leave_no_trace(backend):
    """Exactly 0 in the output and in the gradients of gate and token, even where the gate is not finite."""
    module = Experts(E, 12, 20, backend=backend)
    torch.nn.init.normal_(module.b_out)
    expert_TK = routed("some dropped", 2)
    expert_TK[3] = -1
    gate = torch.rand(T, 2)
    gate[expert_TK < 0] = float("inf")
    gate.requires_grad_()
    x = torch.randn(T, 12, requires_grad=True)
    y = module(x, expert_TK, gate)
    y.backward(torch.ones_like(y))
    assert (y[3] == 0).all() and (x.grad[3] == 0).all()
    assert (gate.grad[expert_TK < 0] == 0).all() and (gate.grad[expert_TK >= 0] != 0).all()
    assert x.grad.isfinite().all() and all(p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_lies_in_unused_memory_does_not_matter(backend):
    """Rows that nobody computes are not initialised: fill freed memory with NaN, which they will get."""
    expert_TK = routed("some dropped", 2, tokens=500)
    wanted = everything("loop", expert_TK)
    for _ in range(20):
        [torch.full((1000 * 12,), float("nan")) for _ in range(5)], [torch.full((1000, 20), float("nan")) for _ in range(5)]
        close(everything(backend, expert_TK), wanted, 1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_same_bits_at_every_call(backend):
    expert_TK = routed("balanced", 3)
    first, second = everything(backend, expert_TK), everything(backend, expert_TK)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_expanded_gradient_and_no_gradient(backend):
    module = Experts(E, 12, 20, backend=backend)
    x, expert_TK = torch.randn(T, 12), routed("balanced", 2)
    gate = torch.rand(T, 2)
    module(x, expert_TK, gate).sum().backward()  # its gradient is a single 1 with strides 0; x wants none
    with torch.no_grad():
        y = module(x, expert_TK, gate)
    assert y.shape == x.shape and module.w_in.grad.isfinite().all()
    module.requires_grad_(False)
    module(x.requires_grad_(), expert_TK, gate).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_slots_are_experts_on_rows_of_their_own(backend):
    module = Experts(E, 12, 20, backend=backend)
    torch.nn.init.normal_(module.b_in)
    slots_ESD = torch.randn(E, 4, 12)
    expert_TK = torch.arange(E).repeat_interleave(4)[:, None]
    token_wise = module(slots_ESD.flatten(0, 1), expert_TK, torch.ones(E * 4, 1))
    assert torch.allclose(module.slots(slots_ESD).flatten(0, 1), token_wise, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert module.slots(slots_ESD).dtype == torch.bfloat16


def test_only_the_chosen_experts_are_computed():
    """What torch counts while it runs, against the model of the cost."""
    torch.manual_seed(0)
    x, expert_TK, gate = torch.randn(64, 8), torch.arange(64)[:, None] % 4, torch.ones(64, 1)
    for backend in BACKENDS:
        counted = flops(Experts(4, 8, 16, backend=backend), x, expert_TK, gate)
        assert 3 * counted == expert_cost(backend, 4, 64, 8, 16).flops, backend


def test_cost_of_one_expert_is_the_dense_cost_and_moving_the_tokens():
    dense, one = dense_cost(100, 8, 32), expert_cost("grouped", 1, 100, 8, 32)
    assert one.flops == dense.flops
    assert one.bytes - dense.bytes == 4 * 12 * 100 * 8
    assert expert_cost("loop", 4, 100, 8, 32) == expert_cost("grouped", 4, 100, 8, 32)
    assert expert_cost("bmm", 4, 100, 8, 32) == expert_cost("grouped", 4, 100, 8, 32)
    assert expert_cost("bmm", 4, 100, 8, 32, largest_load=50).flops == 2 * one.flops
    assert expert_cost("grouped", 4, 100, 8, 32, k=2).flops == 2 * one.flops
    assert Cost(flops=10, bytes=6).seconds(5, 2) == 3
    with pytest.raises(ValueError, match="use one of loop"):
        expert_cost("triton", 4, 100, 8, 32)


@pytest.mark.parametrize("backend", ["loop", "auto"])
def test_backend_cost(backend):
    torch.manual_seed(0)
    cost = backend_cost(4, 64, 8, 16, 2, backend, torch.float32, CPU, rounds=3)
    assert 0 < cost["ratio_p05"] <= cost["ratio"] <= cost["ratio_p95"]
    assert cost["layer_ms"] > 0 and cost["dense_ms"] > 0 and cost["largest_load"] >= 1
    assert cost["flops"] == cost["dense_flops"]


def test_auto():
    even, collapsed = routed("balanced", 1), routed("one expert", 1)
    assert fastest(even, E, torch.float32) == fastest(collapsed, E, torch.float32) == "grouped"
    assert fastest(even, E, torch.float64) == "loop"
    assert fastest(even, E, torch.bfloat16) == "bmm"
    assert fastest(collapsed, E, torch.bfloat16) == "grouped"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(activation="swish"), "unknown activation 'swish': use one of gelu, relu"),
        (dict(backend="triton"), "unknown backend 'triton': use 'auto' or one of loop"),
        (dict(experts=0), "experts=0"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Experts(**dict(experts=2, d_model=4, hidden=8) | arguments)


def test_shapes_that_do_not_fit_are_refused():
    module = Experts(2, 4, 8)
    with pytest.raises(ValueError, match=r"should be \[T, 4\], \[T, K\] and \[T, K\]"):
        module(torch.randn(3, 5), torch.zeros(3, 1, dtype=torch.int64), torch.ones(3, 1))
    with pytest.raises(ValueError, match="should be"):
        module(torch.randn(3, 4), torch.zeros(3, 1, dtype=torch.int64), torch.ones(3, 2))


def test_start_is_that_of_a_linear_layer():
    torch.manual_seed(0)
    module = Experts(8, 64, 256)
    linear = torch.nn.Linear(64, 256)
    assert module.w_in.std().item() == pytest.approx(linear.weight.std().item(), rel=0.02)
    assert module.w_out.std().item() == pytest.approx(module.w_in.std().item() / 2, rel=0.02)
    assert not module.b_in.any() and not module.b_out.any()


def test_freed_memory_is_kept_only_if_it_would_not_be_anyway():
    assert not expert_memory.keep_freed_memory(1024)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_freed_memory_is_kept(python):
    """Two weight gradients of 40 MB, given up and made again, without most of their page faults.

    In a process of its own, since it is for the whole process.
    """
    done = python(
        "-c",
        """
import resource, torch
from lib.moe.expert_memory import keep_freed_memory
kept = keep_freed_memory(40 * 2**20)
def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    gradients = torch.ones(10 * 2**20), torch.ones(10 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults = [step() for _ in range(20)]
print(kept, sum(faults[10:]) / 10)
""",
    )
    assert done.returncode == 0, done.stderr
    kept, faults = done.stdout.split()
    if kept == "False":
        pytest.skip("this libc has no such setting")
    assert float(faults) < 80 * 2**20 / 4096 / 2
