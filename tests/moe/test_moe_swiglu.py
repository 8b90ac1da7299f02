"""SwiGLU experts, and experts without biases: all backends, padding, gradients, and what is stored of them."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from lib.measure.cost import active_parameters, flops, parameters
from lib.moe.average import average, feed_forward, pair
from lib.moe.backends import BACKENDS
from lib.moe.expert_grouped import swiglu
from lib.moe.experts import Experts
from lib.moe.layer import MoEConfig, MoELayer
from lib.moe.routers import ROUTERS
from lib.moe.routers.partition import average_weights

T, E, D, H = 37, 5, 12, 20


def routed(kind: str, k: int, experts: int = E) -> torch.Tensor:
    generator = torch.Generator().manual_seed(k)
    expert_TK = torch.rand(T, experts, generator=generator).argsort(dim=1)[:, :k]
    match kind:
        case "some dropped":
            expert_TK[torch.rand(T, k, generator=generator) < 0.4] = -1
        case "all dropped":
            expert_TK[:] = -1
        case "empty experts":
            expert_TK = expert_TK % (experts - 2) + 1
        case "one expert":
            expert_TK[:] = experts - 1
    return expert_TK


def started(backend: str, d: int = D, h: int = H, bias: bool = True, experts: int = E) -> Experts:
    torch.manual_seed(0)
    module = Experts(experts, d, h, "swiglu", backend, bias)
    if bias:
        torch.nn.init.normal_(module.b_in)
        torch.nn.init.normal_(module.b_out)
    return module


def everything(
    backend: str,
    expert_TK: torch.Tensor,
    d: int = D,
    h: int = H,
    bias: bool = True,
    dtype: torch.dtype = torch.float32,
    autocast: bool = False,
) -> dict[str, torch.Tensor]:
    """Output and all gradients, by name."""
    module = started(backend, d, h, bias).to(dtype)
    torch.manual_seed(1)
    x, gate, grad = torch.randn(len(expert_TK), d), torch.rand(expert_TK.shape), torch.randn(len(expert_TK), d)
    x, gate = x.to(dtype).requires_grad_(), gate.to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = module(x, expert_TK, gate)
    y.backward(grad.to(y.dtype))
    return {"y": y.detach(), "x": x.grad, "gate": gate.grad} | {n: p.grad for n, p in module.named_parameters()}


def close(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    assert got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert got[name].shape == tensor.shape
        error = (got[name].double() - tensor.double()).abs().max()
        assert error <= tolerance * max(1, tensor.abs().max()), f"{name}: off by {error}"


KINDS = ("balanced", "some dropped", "all dropped", "empty experts", "one expert")


# What is computed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_first_columns_are_the_gate_and_the_others_up(backend, bias):
    """The definition, token by token."""
    module, expert_TK = started(backend, bias=bias), routed("some dropped", 2)
    x, gate = torch.randn(T, D), torch.rand(T, 2)
    wanted = torch.zeros(T, D)
    for t, k in itertools.product(range(T), range(2)):
        e = expert_TK[t, k]
        if e >= 0:
            silu = F.silu(x[t] @ module.w_in[e, :, :H] + module.b_in[e, :H])
            hidden = silu * (x[t] @ module.w_in[e, :, H:] + module.b_in[e, H:])
            wanted[t] += gate[t, k] * (hidden @ module.w_out[e] + module.b_out[e])
    assert torch.allclose(module(x, expert_TK, gate), wanted, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["einsum", "bmm", "grouped", "auto"])
@pytest.mark.parametrize("bias", [True, False])
def test_backends_agree_in_outputs_and_all_gradients(backend, kind, bias):
    for k in (1, 2, 4):
        expert_TK = routed(kind, k)
        close(everything(backend, expert_TK, bias=bias), everything("loop", expert_TK, bias=bias))


@pytest.mark.parametrize("backend", ["einsum", "bmm", "grouped"])
@pytest.mark.parametrize("d, h", [(7, 13), (300, 10), (1, 1), (16, 33), (13, 16)])
@pytest.mark.parametrize("bias", [True, False])
def test_backends_agree_for_widths_that_fit_no_alignment(backend, d, h, bias):
    expert_TK = routed("some dropped", 2)
    close(everything(backend, expert_TK, d, h, bias), everything("loop", expert_TK, d, h, bias))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_against_finite_differences(backend, bias):
    module = started(backend, 4, 5, bias, experts=3).double()
    x, gate = torch.randn(6, 4, dtype=torch.float64), torch.rand(6, 2, dtype=torch.float64)
    expert_TK = torch.tensor([[0, 1], [2, -1], [1, 0], [-1, -1], [0, 2], [2, 1]])
    names = [name for name, _ in module.named_parameters()]

    def run(x, gate, *weights):
        return torch.func.functional_call(module, dict(zip(names, weights)), (x, expert_TK, gate))

    assert gradcheck(run, [t.detach().requires_grad_() for t in (x, gate, *module.parameters())])


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
def test_double_precision(backend):
    expert_TK = routed("some dropped", 2)
    got = everything(backend, expert_TK, dtype=torch.float64)
    assert all(tensor.dtype == torch.float64 for tensor in got.values())
    close(got, everything("loop", expert_TK, dtype=torch.float64), 1e-12)


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
@pytest.mark.parametrize("d, h", [(16, 24), (300, 21)])
@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_bfloat16(backend, d, h, autocast, bias):
    expert_TK = routed("some dropped", 2)
    exact = everything("loop", expert_TK, d, h, bias)
    got = everything(backend, expert_TK, d, h, bias, torch.float32 if autocast else torch.bfloat16, autocast)
    assert got["y"].dtype == torch.bfloat16
    for name, tensor in exact.items():
        assert (got[name].float() - tensor).norm() <= 0.02 * tensor.norm(), name


@pytest.mark.parametrize("backend", BACKENDS)
def test_unused_memory_and_a_second_call_change_nothing(backend):
    """Rows that nobody computes are not initialised: fill freed memory with NaN, which they will get."""
    expert_TK = routed("some dropped", 2)
    wanted = everything(backend, expert_TK)
    for _ in range(20):
        [torch.full((2 * T * width,), float("nan")) for width in (D, H, 2 * H) for _ in range(4)]
        got = everything(backend, expert_TK)
        assert all(torch.equal(got[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_expanded_gradient_and_frozen_weights(backend):
    module, expert_TK, gate = started(backend), routed("balanced", 2), torch.rand(T, 2)
    module(torch.randn(T, D), expert_TK, gate).sum().backward()  # its gradient is a single 1 with strides 0
    assert module.w_in.grad.isfinite().all()
    module.requires_grad_(False)
    x = torch.randn(T, D, requires_grad=True)
    module(x, expert_TK, gate).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_slots_are_experts_on_rows_of_their_own(backend):
    module, slots_ESD = started(backend), torch.randn(E, 4, D)
    token_wise = module(slots_ESD.flatten(0, 1), torch.arange(E).repeat_interleave(4)[:, None], torch.ones(E * 4, 1))
    assert torch.allclose(module.slots(slots_ESD).flatten(0, 1), token_wise, atol=1e-5)


def test_a_single_expert_and_the_mean_of_equal_ones_are_that_expert():
    module, x = started("loop"), torch.randn(T, D)
    one, zero = torch.tensor([2]), torch.full((T, 1), 2)
    wanted = module(x, zero, torch.ones(T, 1))
    assert torch.allclose(feed_forward(x, pair(module, one, one), "swiglu"), wanted, atol=1e-5)
    with torch.no_grad():
        for stacked in module.parameters():
            stacked.copy_(stacked[2].expand_as(stacked))
    average_weights(module, 0.5)
    assert torch.allclose(feed_forward(x, average(module), "swiglu"), wanted, atol=1e-5)


def test_work_is_that_of_three_matrices():
    expert_TK, x, gate = torch.arange(64)[:, None] % 4, torch.randn(64, 8), torch.ones(64, 1)
    for backend in set(BACKENDS) - {"einsum"}:
        assert flops(Experts(4, 8, 16, "swiglu", backend), x, expert_TK, gate) == 6 * 64 * 8 * 16, backend


def test_swiglu_is_silu_of_the_first_half_times_the_second():
    pre = torch.randn(3, 4, 10)
    assert torch.equal(swiglu(pre), F.silu(pre[..., :5]) * pre[..., 5:])


# What is stored -------------------------------------------------------------------------------------------


def test_shapes_names_and_start():
    torch.manual_seed(0)
    module = Experts(8, 64, 96, "swiglu")
    assert {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()} == {
        "w_in": (8, 64, 192),
        "b_in": (8, 192),
        "w_out": (8, 96, 64),
        "b_out": (8, 64),
    }
    assert module.extra_repr() == "8 x (64 -> 96 -> 64), swiglu, backend=auto"
    for weight, inputs in ((module.w_in, 64), (module.w_out, 96)):
        assert weight.std().item() == pytest.approx((3 * inputs) ** -0.5, rel=0.02)  # as nn.Linear
    assert not module.b_in.any() and not module.b_out.any()


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_without_biases_nothing_of_them_is_trained_or_stored(activation):
    torch.manual_seed(0)
    module = Experts(E, D, H, activation, bias=False)
    assert list(module.state_dict()) == [name for name, _ in module.named_parameters()] == ["w_in", "w_out"]
    assert parameters(module) == E * D * H * (3 if activation == "swiglu" else 2)
    assert not module.b_in.any() and not module.b_out.any() and module.double().b_in.dtype == torch.float64
    assert module.extra_repr() == f"{E} x ({D} -> {H} -> {D}), {activation}, backend=auto, bias=False"
    torch.manual_seed(0)
    biased = Experts(E, D, H, activation).double()
    missing = module.load_state_dict(biased.state_dict(), strict=False)
    assert not missing.missing_keys and missing.unexpected_keys == ["b_in", "b_out"]
    assert torch.equal(module.w_out, biased.w_out)  # the same random numbers, with biases and without


@pytest.mark.parametrize("activation", ["gelu", "relu", "swiglu"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_without_biases_is_biases_of_zero(activation, backend):
    expert_TK, gate, x = routed("some dropped", 2), torch.rand(T, 2), torch.randn(T, D)
    with_, without = (Experts(E, D, H, activation, backend, bias=bias) for bias in (True, False))
    without.load_state_dict({name: with_.state_dict()[name] for name in ("w_in", "w_out")})
    y, y0 = with_(x, expert_TK, gate), without(x, expert_TK, gate)
    for out in (y, y0):
        out.square().sum().backward()
    assert torch.equal(y, y0) and torch.equal(with_.w_in.grad, without.w_in.grad)
    assert torch.equal(with_.w_out.grad, without.w_out.grad) and without.b_in.grad is None


# The layer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("bias", [True, False])
def test_every_router_trains_swiglu_experts(router, bias):
    torch.manual_seed(0)
    layer = MoELayer(MoEConfig(experts=4, router=router), D, H, tokens=16, activation="swiglu", bias=bias)
    y, routing = layer(torch.randn(3, 16, D))
    (y.square().mean() + routing.loss).backward()
    assert layer.experts.w_in.grad.isfinite().all() and layer.experts.w_in.grad.any()
    assert layer.eval()(torch.randn(3, 16, D))[0].isfinite().all()


@pytest.mark.parametrize("bias", [True, False])
def test_parameters_at_work(bias):
    layer = MoELayer(MoEConfig(experts=4, k=1, split=2), D, H, activation="swiglu", bias=bias)
    expert = 3 * D * H // 2 + (2 * H // 2 + D if bias else 0)
    assert layer.experts.w_in.shape == (8, D, H)  # gate and up of experts half as wide
    assert parameters(layer) == 8 * D + 8 * expert
    assert active_parameters(layer) == layer.active_parameters() == 8 * D + 2 * expert


@pytest.mark.parametrize("fields", [{"activation": "swiglu"}, {"activation": "relu"}, {"bias": False}])
def test_shared_experts_are_gelu_with_biases(fields):
    config = MoEConfig(experts=4, k=2, shared=1)
    MoELayer(config, D, H, activation="gelu", bias=True)
    with pytest.raises(ValueError, match="shared experts are a GELU network with biases; use activation='gelu'"):
        MoELayer(config, D, H, **fields)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="unknown activation 'geglu': use one of gelu, relu, swiglu"):
        MoELayer(MoEConfig(), D, H, activation="geglu")
