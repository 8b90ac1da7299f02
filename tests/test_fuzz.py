"""Files and parameters that nobody wrote on purpose: no error but the documented ones, whatever they hold."""

import dataclasses
import hashlib
import json
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from lib.claims.origin import provenance_line
from lib.cli.names import value_of
from lib.models.mlp import MLP, MLPConfig
from lib.models.vit import ViT, ViTConfig
from lib.models.vit_file import load_vit
from lib.moe.layer import MoEConfig
from lib.quantization import packed
from lib.quantization.fold import fold
from lib.runs import checkpoint as training_state
from lib.runs import tensor_file
from lib.runs.markdown import ENTITIES
from lib.runs.results import Damaged, checksum, read_result
from lib.studies import CHAPTERS
from lib.studies.base.parameters import checked, numbers
from lib.training import loop as train
from store_specs import Points

#: Reproducible, and a few seconds in all.
settings.register_profile(
    "book",
    derandomize=True,
    deadline=None,
    max_examples=30,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("book")

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([-1, 2**31, 10**12, 1e308])
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=12
)
CHANGES = st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 255)), min_size=1, max_size=4)


def changed_bytes(content, changes):
    found = bytearray(content)
    for place, byte in changes:
        found[place % len(found)] = byte
    return bytes(found)


def places(value, here=()):
    """Every path into nested JSON data."""
    yield here
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inner:
        yield from places(part, (*here, name))


def replaced(value, path, new):
    """A copy with something else at ``path``."""
    value = json.loads(json.dumps(value))
    if not path:
        return new
    inside = value
    for name in path[:-1]:
        inside = inside[name]
    inside[path[-1]] = new
    return value


def harmed(value):
    """Strategy: ``value`` with one or two of its parts replaced by any other."""
    once = st.tuples(st.sampled_from(list(places(value))), JSON).map(lambda change: replaced(value, *change))
    return once | st.tuples(once, JSON).map(lambda both: replaced(both[0], list(places(both[0]))[-1], both[1]))


# Result files

RESULT = {
    "schema": 1,
    "experiment": "test",
    "key": "0" * 16,
    "spec": {"seed": 0, "moe": {"type": "MoE", "experts": 8}},
    "metrics": {"accuracy": 0.5, "name": "a"},
    "curves": {"loss": [2.0, 1.0]},
    "arrays": {"load": [[1, 2], [3, 4]]},
    "provenance": {"device": "CPU", "device_type": "cpu", "commit": None, "data": {"name": "digits", "variant": "v"}},
}


def texts(value):
    if isinstance(value, dict):
        yield from (text for pair in value.items() for part in pair for text in texts(part))
    elif isinstance(value, (list, tuple)):
        yield from (text for part in value for text in texts(part))
    elif isinstance(value, str):
        yield value


def read_it(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test" / f"{'0' * 16}.json"
        path.parent.mkdir()
        path.write_bytes(content)
        try:
            result = read_result(path, "own")
        except Damaged as error:
            assert str(path) in str(error)
        else:
            special = {chr(character) for character in ENTITIES} - {"&"}
            assert not any(special & set(text) for text in texts(result.content()))
            assert isinstance(result.fields, dict)
            if result.spec == RESULT["spec"] and isinstance(result.provenance.get("commit"), (str, type(None))):  # else refused next
                provenance_line([result])


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_a_result_file_of_anything(content):
    read_it(content)


@given(harmed(RESULT))
def test_a_result_file_of_anything_under_a_right_checksum(content):
    sealed = content | {"sha256": checksum(content)} if isinstance(content, dict) else content
    read_it(json.dumps(sealed).encode())


# Training state


def model_and_training():
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    recipe = train.Recipe(epochs=3, batch_size=8, lr=0.01, ema=0.9)
    loss = lambda model, x, y: (nn.functional.mse_loss(model(x), y), {})  # noqa: E731
    return model, train.Training(model, Points(), loss, recipe, 0, None, None, lambda part, text: None)


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """The file, tensors and record of training in the middle of its second epoch."""
    folder = tmp_path_factory.mktemp("state")
    _, training = model_and_training()
    train.append(training.curves, training.run_epoch(None))
    training.epoch, training.begun = 1, 0.0
    training.model.train()
    training.means.add(training.run_step(0))
    training.step = 1
    training.save(folder, now=True)
    return (folder / training_state.FILE).read_bytes(), *training_state.load(folder)


def resumes_or_stays_untouched(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / training_state.FILE
        path.write_bytes(content)
        model, training = model_and_training()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        training.resume(Path(folder))
        if path.exists():
            assert (training.epoch, training.step) != (0, 0)
        else:
            assert (training.epoch, training.step, training.curves) == (0, 0, {})
            assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@given(changes=CHANGES, end=st.integers(0, 10**6))
def test_training_state_of_other_bytes(state, changes, end):
    resumes_or_stays_untouched(changed_bytes(state[0], changes)[: 1 + end])


@given(data=st.data())
def test_training_state_of_anything_under_a_right_checksum(state, data):
    _, tensors, record = state
    text = json.dumps(data.draw(harmed(record)))
    names = data.draw(st.sets(st.sampled_from(sorted(tensors)), max_size=2))
    kept = {
        name: data.draw(st.sampled_from([torch.zeros(2), torch.full_like(tensor, 1), torch.zeros(0), tensor.flatten()]))
        if name in names
        else tensor
        for name, tensor in tensors.items()
    }
    resumes_or_stays_untouched(save(kept, metadata={"record": text, "sha256": tensor_file.checksum(kept, text)}))


# Packed models


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Header and body of a packed file."""
    torch.manual_seed(0)
    model = MLP(MLPConfig(12, (6, 4), classes=3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.sign() * (parameter.abs() > 0.2))
    path = tmp_path_factory.mktemp("packed") / "model"
    packed.write(fold(model, (1, 3, 4)), path, {"dataset": "digits"})
    whole = path.read_bytes()
    start = len(packed.MAGIC) + 4
    end = start + int.from_bytes(whole[start - 4 : start], "big")
    return json.loads(zlib.decompress(whole[start:end])), whole[end : -packed.CHECK]


def sealed(header, body):
    text = zlib.compress(json.dumps(header).encode())
    data = packed.MAGIC + len(text).to_bytes(4, "big") + text + body
    return data + hashlib.sha256(data).digest()


def is_a_network_or_unreadable(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        path.write_bytes(content)
        for reader in (packed.read, packed.about, packed.sizes_of):
            try:
                found = reader(path)
            except packed.Unreadable as error:
                assert str(path) in str(error)
            else:
                if reader is packed.read:
                    assert sum(parameter.numel() for parameter in found.parameters()) <= packed.MOST_PARAMETERS


@given(data=st.data())
def test_a_packed_file_with_any_header(network, data):
    header, body = network
    is_a_network_or_unreadable(sealed(data.draw(harmed(header)), body))


@given(changes=CHANGES, end=st.integers(0, 10**6))
def test_a_packed_file_with_any_body(network, changes, end):
    header, body = network
    is_a_network_or_unreadable(sealed(header, changed_bytes(body, changes)[:end]))


@given(content=st.binary(max_size=200))
def test_a_packed_file_of_anything(content):
    is_a_network_or_unreadable(content)
    is_a_network_or_unreadable(packed.MAGIC + content)


# Files of a vision transformer


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """The configuration and the weights of a small one with experts."""
    torch.manual_seed(0)
    config = ViTConfig(image_size=8, patch=4, width=8, depth=2, heads=2, hidden=(8, 12), classes=3, moe=(None, MoEConfig(experts=2)))
    return dataclasses.asdict(config), ViT(config).state_dict()


def is_a_vit_or_refused(config, state):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(save(state, metadata={"vit": config if isinstance(config, str) else json.dumps(config)}))
        began = time.monotonic()
        try:
            model = load_vit(path)
        except ValueError as error:
            assert str(path) in str(error) or "another version" in str(error)
        else:
            assert {name: tensor.shape for name, tensor in model.state_dict().items()} == {name: t.shape for name, t in state.items()}
        assert time.monotonic() - began < 5


@given(data=st.data())
def test_a_vit_of_any_configuration(vit, data):
    config, state = vit
    is_a_vit_or_refused(data.draw(harmed(config)), state)


@pytest.mark.parametrize(
    "change",
    [{"width": 10**9}, {"depth": 10**6}, {"hidden": [8, 10**7]}, {"classes": 10**8}, {"image_size": 4 * 10**6}, {"positions": 10**9}]
    + [{"channels": 10**7}, {"head_dim": 10**7}, {"head_hidden": 10**8}, {"heads": 0}, {"patch": 0}, {"width": "8"}, {"depth": 2.5}],
)
def test_a_vit_takes_no_more_than_its_file(vit, change):
    """Neither memory nor time for what the file has no weights for."""
    config, state = vit
    is_a_vit_or_refused(config | change, state)


def test_a_vit_of_anything(vit):
    for text in ("", "[]", "null", "{" * 5000, "[" * 100_000, '"text"', "{}"):
        is_a_vit_or_refused(text, vit[1])
    is_a_vit_or_refused(vit[0], {name: tensor for name, tensor in list(vit[1].items())[1:]})
    is_a_vit_or_refused(vit[0], {})


# Parameters

TYPED = (
    st.text(max_size=30)
    | st.integers().map(str)
    | st.floats().map(str)
    | st.lists(st.floats() | st.integers(), max_size=6).map(lambda values: ", ".join(map(str, values)))
)


@given(st.sampled_from(CHAPTERS), st.data())
def test_what_is_typed_for_a_parameter_is_taken_or_refused_in_one_line(chapter, data):
    known = chapter.module.Parameters
    names = st.sampled_from([field.name for field in dataclasses.fields(known)]) | st.text(max_size=8)
    typed = data.draw(st.dictionaries(names, TYPED, max_size=2))
    try:
        checked(known, {name: value_of(text) for name, text in typed.items()})
    except (TypeError, ValueError) as error:
        assert len(str(error).splitlines()) == 1 and len(str(error)) < 600


@given(TYPED)
def test_lists_of_numbers_are_finite_or_refused(text):
    try:
        assert np.isfinite(numbers("ratios", text)).all()
    except ValueError as error:
        assert len(str(error).splitlines()) == 1
