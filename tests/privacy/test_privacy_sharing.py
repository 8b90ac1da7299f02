"""The two-party simulation against plain arithmetic, what it says was sent, and what one party alone can see."""

import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from lib.privacy.cost import PROTOCOLS, comparison_bytes, comparison_rounds
from lib.privacy.fixed_point import decode, encode, uniform
from lib.privacy.ledger import Ledger
from lib.privacy.sharing import Parties

#: Cases of each operation; shapes, sizes and bits differ between them.  7 operations × 150 is more than a thousand.
CASES = 150


def drawn(case, limit=8.0):
    """A generator, a random shape, bits, and two float64 tensors of values within the limit."""
    g = torch.Generator().manual_seed(case)
    shape = torch.randint(1, 6, (int(torch.randint(1, 4, (1,), generator=g)),), generator=g).tolist()
    bits = int(torch.randint(8, 17, (1,), generator=g))
    x, y = ((2 * torch.rand(shape, generator=g, dtype=torch.float64) - 1) * limit for _ in range(2))
    return g, bits, x, y


def step(bits):
    return 2.0**-bits


# Numbers


def test_encoding_rounds_to_the_nearest_and_refuses_what_does_not_fit():
    for case in range(CASES):
        _, bits, x, _ = drawn(case, limit=1000)
        assert (decode(encode(x, bits), bits) - x).abs().max() <= step(bits) / 2
        assert encode(x.float(), bits).dtype == torch.int64
    for bad in (float("nan"), float("inf"), 2.0**60):
        with pytest.raises(ValueError, match="scale it down"):
            encode(torch.tensor([bad]), 14)
    assert encode(torch.empty(0, 3)).shape == (0, 3)


def test_uniform_covers_the_whole_ring():
    x = uniform((100_000,), torch.Generator().manual_seed(0))
    assert (x < 0).double().mean() == pytest.approx(0.5, abs=0.01)
    assert x.max() > 2**62 and x.min() < -(2**62)


# Operations, against plain arithmetic


def test_share_and_recover():
    for case in range(CASES):
        _, bits, x, _ = drawn(case, limit=1e4)
        parties = Parties(case, bits)
        shares = parties.share(x)
        assert shares.shape == x.shape
        assert (parties.recover(shares) - x).abs().max() <= step(bits) / 2


def test_sums_and_public_numbers():
    for case in range(CASES):
        g, bits, x, y = drawn(case, limit=100)
        parties = Parties(case, bits)
        a, b = parties.share(x), parties.share(y)
        public = torch.rand(x.shape[-1:], generator=g, dtype=torch.float64) * 4 - 2
        assert (parties.recover(a + b) - (x + y)).abs().max() <= 2 * step(bits)
        assert (parties.recover(a - b) - (x - y)).abs().max() <= 2 * step(bits)
        assert (parties.recover(parties.add(a, public)) - (x + public)).abs().max() <= 2 * step(bits)
        assert (parties.recover(parties.scale(a, public)) - x * public).abs().max() <= 105 * step(bits)
        assert torch.equal(parties.recover(a.moved(lambda s: s.flatten().flip(0))), parties.recover(a).flatten().flip(0))


def test_products_and_squares():
    for case in range(CASES):
        _, bits, x, y = drawn(case)
        parties = Parties(case, bits)
        a, b = parties.share(x), parties.share(y)
        bound = 12 * step(bits)  # half a step of each factor times the other's 8, and one of truncation
        assert (parties.recover(parties.multiply(a, b)) - x * y).abs().max() <= bound
        assert (parties.recover(parties.square(a)) - x * x).abs().max() <= bound


def test_linear_layers():
    for case in range(CASES):
        g, bits, _, _ = drawn(case)
        rows, inputs, outputs = torch.randint(1, 9, (3,), generator=g).tolist()
        x, w = torch.randn(rows, inputs, generator=g, dtype=torch.float64), torch.randn(outputs, inputs, generator=g, dtype=torch.float64)
        parties = Parties(case, bits)
        out = parties.recover(parties.linear(parties.share(x), parties.hold(w)))
        assert (out - x @ w.T).abs().max() <= (8 * inputs + 2) * step(bits)


def test_convolutions():
    for case in range(CASES):
        g, bits, _, _ = drawn(case)
        batch, channels, out = torch.randint(1, 4, (3,), generator=g).tolist()
        kernel, stride, padding = (int(torch.randint(low, high, (1,), generator=g)) for low, high in ((1, 4), (1, 3), (0, 2)))
        x = torch.randn(batch, channels, 6, 7, generator=g, dtype=torch.float64)
        w = torch.randn(out, channels, kernel, kernel, generator=g, dtype=torch.float64)
        parties = Parties(case, bits)
        got = parties.recover(parties.conv2d(parties.share(x), parties.hold(w), stride, padding))
        expected = F.conv2d(x, w, stride=stride, padding=padding)
        assert got.shape == expected.shape
        assert (got - expected).abs().max() <= (8 * channels * kernel**2 + 2) * step(bits)


def test_relu_stands_in_for_a_protocol():
    for case in range(CASES):
        _, bits, x, _ = drawn(case)
        parties = Parties(case, bits)
        assert (parties.recover(parties.relu(parties.share(x))) - x.relu()).abs().max() <= step(bits) / 2


def test_truncation_is_off_by_one_at_most_or_by_a_lot():
    """SecureML's bound: for |x| < 2^k it fails with probability below 2^(k + 1 - 64)."""
    for size, share in ((2**40, 0.0), (2**61, 0.25)):
        parties = Parties(0, 14)
        whole = torch.full((20_000,), size)
        shares = parties.truncate(parties.split(whole))
        off = (shares.first + shares.second - (whole >> 14)).abs()
        failed = (off > 1).double().mean().item()
        assert failed == pytest.approx(share / 2, abs=0.01) if share else failed == 0
        assert not share or off.max() >= 2**49


# Messages


def test_what_is_sent():
    parties = Parties(0)
    x = parties.share(torch.randn(2, 3, 4, 4))
    assert parties.ledger.by_operation("online") == {"input": 2 * 8 * 96} and parties.ledger.rounds["online"] == 1
    parties.square(x)
    assert parties.ledger.bytes["online", "square"] == 2 * 8 * 96 and parties.ledger.bytes["offline", "dealer"] == 2 * 2 * 8 * 96
    parties.multiply(x, x)
    assert parties.ledger.bytes["online", "multiply"] == 2 * 2 * 8 * 96 and parties.ledger.rounds["online"] == 3
    parties.scale(parties.add(x + x, torch.ones(1)), 0.5)
    parties.relu(x)
    assert parties.ledger.bytes["online", "comparison"] == 96 * comparison_bytes(64)
    assert parties.ledger.rounds["online"] == 3 + comparison_rounds(64)
    held = parties.hold(torch.randn(5, 3, 3, 3))
    assert parties.ledger.total("setup") == 3 * 2 * 8 * 135
    before = parties.ledger.total("online")
    parties.conv2d(x, held)
    assert parties.ledger.total("online") - before == 2 * 8 * 96  # of the input alone: the weight was opened before


def test_rounds_of_what_happens_at_once_count_once():
    ledger = Ledger()
    with ledger.together():
        ledger.charge("a", 5, 3)
        ledger.charge("b", 7, 8)
        ledger.charge("dealer", 2, phase="offline")
    ledger.charge("c", 1, 1)
    with ledger.during("setup"):
        ledger.charge("d", 4, 1)
    assert ledger.rounds == {"online": 9, "offline": 0, "setup": 1} and ledger.total("online") == 13
    assert ledger.by_operation("setup") == {"d": 4}


def test_published_costs():
    assert comparison_bytes(64) == 1168 and comparison_rounds(64) == 8
    # The construction's own count for 64 bits, which the bound must cover: 16 leaves of 1-out-of-16 transfers of 2 bits,
    # 26 products of bits at 128 + 16 + 4 each, and two transfers of 64 bits.
    assert (16 * (2 * 128 + 32) + 26 * 148 + 2 * (128 + 2 * 64)) / 8 <= comparison_bytes(64)
    slow, fast = PROTOCOLS["garbled circuits"], PROTOCOLS["AutoReP's protocol"]
    assert slow.low < slow.middle < slow.high and slow.milliseconds(1000) == pytest.approx(22, abs=0.1)
    assert 8 < slow.middle / fast.middle < 20


# Privacy: what one party holds says nothing

SECRETS = {"zero": 0.0, "one": 1.0, "large": -1e9, "tiny": 2.0**-14}
DRAWS = 40_000


def bytes_of(share):
    """[draws, 8]"""
    return torch.stack([(share >> (8 * place)) & 255 for place in range(8)], 1)


def chi_square(values):
    return stats.chisquare(torch.bincount(values, minlength=256).numpy()).pvalue


@pytest.mark.parametrize("party", ["first", "second"])
def test_each_byte_of_a_share_is_uniform_whatever_the_secret(party):
    pvalues = []
    for seed, secret in enumerate(SECRETS.values()):
        share = getattr(Parties(seed).share(torch.full((DRAWS,), secret)), party)
        pvalues += [chi_square(bytes_of(share)[:, place]) for place in range(8)]
    assert min(pvalues) > 0.01 / len(pvalues)  # Bonferroni
    assert stats.kstest(pvalues, "uniform").pvalue > 0.01  # and they are spread as they should be


@pytest.mark.parametrize("party", ["first", "second"])
def test_a_share_is_independent_of_the_secret(party):
    """Chi-square of a contingency table of the secret (4 values) by the share's byte, for each byte; and bit by bit."""
    g = torch.Generator().manual_seed(7)
    which = torch.randint(4, (4 * DRAWS,), generator=g)
    secret = torch.tensor(list(SECRETS.values()), dtype=torch.float64)[which]
    share = getattr(Parties(11).share(secret), party)
    pvalues = []
    for place in range(8):
        table = torch.bincount(which * 256 + bytes_of(share)[:, place], minlength=1024).view(4, 256).numpy()
        pvalues.append(stats.chi2_contingency(table).pvalue)
    assert min(pvalues) > 0.01 / 8
    bits = torch.stack([(share >> place) & 1 for place in range(64)]).double()
    correlations = torch.corrcoef(torch.cat([secret[None], bits]))[0, 1:].abs()
    assert correlations.max() < 5 / (4 * DRAWS) ** 0.5


def test_what_is_opened_in_a_square_is_uniform_too():
    class Listening(Parties):
        def open(self, x, operation, rounds=1):
            self.heard = super().open(x, operation, rounds)
            return self.heard

    for seed, secret in enumerate(SECRETS.values()):
        parties = Listening(seed)
        parties.square(parties.share(torch.full((DRAWS,), min(secret, 10.0) if secret > 0 else max(secret, -10.0))))
        assert min(chi_square(bytes_of(parties.heard)[:, place]) for place in range(8)) > 0.01 / 32


def test_the_test_would_notice_a_leak():
    """A share drawn from half of the ring gives itself away at once."""
    secret = torch.full((DRAWS,), 1.0, dtype=torch.float64)
    leaky = encode(secret) - uniform((DRAWS,), torch.Generator().manual_seed(0)).abs()
    assert min(chi_square(bytes_of(leaky)[:, place]) for place in range(8)) < 1e-12
