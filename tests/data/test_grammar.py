"""The grammar of stories: exact entropy and length, one derivation per text, stories that hold together."""

import math
import re
import statistics
from collections import Counter
from itertools import permutations

import pytest

from lib.data.grammar import SENTENCE_END, Draw, Grammar, Option, Slot, Symbol, read_grammar, story_grammar

SMALL_POOLS = """
name | he  | his
Tim  | he  | his
Åsa  | she | her
Mia  | she | her

toy
ball
red hat
"""
SMALL_RULES = """
STORY
    [hero friend: name] START [thing: toy] MIDDLE END

START
    3: {hero} met {friend}.
    1: One <time>, {hero} and {friend} met. / {Hero.he} <said>, "Hello!"
time
    2: day
    night
said
    said
    cried
MIDDLE
    2: -
    1: {Friend.he} had a <new> {thing}. / {Hero.he} wanted it. END
new
    5: new
    2: <time>
END
    The end of {thing}.
    2: {hero} lost {hero.his} {thing}. / {friend} found it.
"""


@pytest.fixture(scope="module")
def grammar():
    return story_grammar()


@pytest.fixture(scope="module")
def told(grammar):
    return grammar.sample(5_000, "tests")


# ---- two independent readings of a grammar ------------------------------------------------------------------


def spell(row, slot):
    value = row[slot.form]
    return value[0].upper() + value[1:] if slot.capital else value


def enumerate_texts(grammar):
    """Every text with its probability, by writing out all derivations."""

    def expand(parts, rows):
        if not parts:
            yield "", 1.0
            return
        first, rest = parts[0], parts[1:]
        if isinstance(first, Symbol):
            for option in grammar.rules[first.name]:
                for text, p in expand(option.parts + rest, rows):
                    yield text, option.probability * p
        elif isinstance(first, Draw):
            ways = list(permutations(grammar.pools[first.pool], len(first.roles)))
            for way in ways:
                for text, p in expand(rest, rows | dict(zip(first.roles, way))):
                    yield text, p / len(ways)
        else:
            head = spell(rows[first.role], first) if isinstance(first, Slot) else first
            for text, p in expand(rest, rows):
                yield head + text, p

    found = Counter()
    for text, p in expand((Symbol(grammar.start),), {}):
        found[text.removesuffix(SENTENCE_END).replace(SENTENCE_END, " ")] += p
    return found


def derivations(grammar, text):
    """The probability of every derivation that gives this text, by trying all of them from the left."""
    text += " "  # so that the last sentence ends like the others
    ahead = [((Symbol(grammar.start), None), 0, {}, 1.0)]  # parts still to read, as a linked list
    while ahead:
        parts, place, rows, p = ahead.pop()
        if parts is None:
            if place == len(text):
                assert all(isinstance(row, dict) for row in rows.values()), "a role leaves no trace in the text"
                yield p
            continue
        first, rest = parts
        if isinstance(first, str):
            first = first.replace(SENTENCE_END, " ")
            if text.startswith(first, place):
                ahead.append((rest, place + len(first), rows, p))
        elif isinstance(first, Symbol):
            for option in grammar.rules[first.name]:
                new = rest
                for part in reversed(option.parts):
                    new = part, new
                ahead.append((new, place, rows, p * option.probability))
        elif isinstance(first, Draw):
            ways = math.perm(len(grammar.pools[first.pool]), len(first.roles))
            ahead.append((rest, place, rows | {role: (first, role) for role in first.roles}, p / ways))
        elif isinstance(rows[first.role], dict):
            value = spell(rows[first.role], first)
            if text.startswith(value, place):
                ahead.append((rest, place + len(value), rows, p))
        else:  # the first time this role is met: it may be any row that others of its draw do not have
            draw, _ = rows[first.role]
            for row in grammar.pools[draw.pool]:
                if text.startswith(value := spell(row, first), place) and row not in [rows[role] for role in draw.roles]:
                    ahead.append((rest, place + len(value), rows | {first.role: row}, p))


def shrunk(grammar, rules, rows=2):
    """The book's grammar with two options for these rules and one for all others, and short tables."""

    def fewer(name, options):
        kept = options[:2] if name in rules else options[:1]
        total = sum(option.probability for option in kept)
        return tuple(Option(option.probability / total, option.parts) for option in kept)

    return Grammar(
        {name: fewer(name, options) for name, options in grammar.rules.items()},
        {name: table[:rows] for name, table in grammar.pools.items()},
    )


# ---- exact numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["small", "lost", "stuck"])
def test_entropy_and_bytes_are_those_of_the_enumerated_texts(grammar, case):
    small = {
        "small": lambda: read_grammar(SMALL_RULES, SMALL_POOLS),
        "lost": lambda: shrunk(grammar, {"OPENING", "HABIT", "time", "FOUND", "THANKS"}),
        "stuck": lambda: shrunk(grammar, {"PLOT", "TRY", "SAD"}),
    }[case]()
    texts = enumerate_texts(small)
    assert 500 < len(texts) < 50_000
    assert math.fsum(texts.values()) == pytest.approx(1, abs=1e-12)
    assert small.entropy == pytest.approx(-math.fsum(p * math.log(p) for p in texts.values()), rel=1e-12)
    length = math.fsum(p * len(text.encode()) for text, p in texts.items())
    assert small.bytes == pytest.approx(length, rel=1e-12)
    assert small.floor == pytest.approx(small.entropy / math.log(2) / length)


def test_samples_follow_the_enumerated_probabilities():
    small = read_grammar(SMALL_RULES, SMALL_POOLS)
    texts, n = enumerate_texts(small), 20_000
    stories = small.sample(n, 3)
    assert all(story.log_prob == pytest.approx(math.log(texts[story.text])) for story in stories)
    counts = Counter(story.text for story in stories)
    often = [text for text in texts if texts[text] * n >= 20]
    chi2 = sum((counts[text] - texts[text] * n) ** 2 / (texts[text] * n) for text in often)
    assert len(often) > 100 and abs(chi2 - len(often)) < 5 * math.sqrt(2 * len(often))


def test_entropy_is_the_mean_of_sampled_stories(grammar, told):
    for exact, sampled in (
        (grammar.entropy, [-story.log_prob for story in told]),
        (grammar.bytes, [len(story.text.encode()) for story in told]),
    ):
        error = statistics.stdev(sampled) / math.sqrt(len(sampled))
        assert abs(statistics.mean(sampled) - exact) < 4 * error < 0.01 * exact


def test_each_text_has_one_derivation(grammar, told):
    for story in told[:400]:
        found = list(derivations(grammar, story.text))
        assert len(found) == 1, story.text
        assert math.log(found[0]) == pytest.approx(story.log_prob, abs=1e-9)


def test_the_parser_sees_ambiguity():
    twice = read_grammar("STORY\n    ONE TWO\nONE\n    -\n    Hello.\nTWO\n    -\n    Hello.\n", "none\nnone")
    assert list(derivations(twice, "Hello.")) == [0.25, 0.25]


# ---- the stories --------------------------------------------------------------------------------------------


def test_every_rule_and_option_is_used(grammar):
    used = {part.name for options in grammar.rules.values() for option in options for part in option.parts if isinstance(part, Symbol)}
    assert used == grammar.rules.keys() - {grammar.start}
    for name, options in grammar.rules.items():
        assert sum(option.probability for option in options) == pytest.approx(1)
        assert len({option.parts for option in options}) == len(options), name


def test_stories_look_like_stories(told):
    words = [re.findall(r"[A-Za-z]+", story.text) for story in told]
    assert 150 <= len({word.lower() for story in words for word in story}) <= 320
    assert min(map(len, words)) >= 60 and max(map(len, words)) <= 170
    assert len({len(story.sentences) for story in told}) >= 8
    for story in told:
        assert " ".join(story.sentences) == story.text
        assert not re.search(r"[<>{}\[\]/|\n]|  |\b[A-Z]{2}|\b[ai]n? [^a-z]", story.text), story.text
        for sentence in story.sentences:
            assert re.fullmatch(r'["A-Z].*[.!?]"?', sentence), sentence


def test_articles_agree(grammar, told):
    assert not [story.text for story in told if re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]", story.text)]


def test_what_is_drawn_holds_to_the_end(grammar, told):
    pronoun = {row[None]: row["he"] for row in grammar.pools["name"]}
    for story in told:
        assert story.hero == story.roles["hero"] != story.friend == story.roles["friend"]
        for role, value in story.roles.items():  # by one of its forms: "in a tree" shows which is meant
            row = next(row for table in grammar.pools.values() for row in table if row[None] == value)
            assert any(form in story.text for form in row.values()), role
        assert story.text.count(story.hero) >= 2 and story.text.count(story.friend) >= 1
        others = set(pronoun) - {story.hero, story.friend}
        assert not others & set(re.findall(r"\w+", story.text))
        spoken_of = set(re.findall(r"\b(he|she)\b", story.text.lower()))
        assert spoken_of <= {pronoun[story.hero], pronoun[story.friend]}


def test_a_seed_is_a_stream(grammar):
    assert grammar.sample(20, 1) == grammar.sample(50, 1)[:20] != grammar.sample(20, 2)
    # Stories stay the same in all versions of Python and of this library: results depend on them.
    assert grammar.sample(1, "train")[0].hero == "Mia"


def test_splits_hardly_overlap(grammar, told):
    texts = {story.text for story in told}
    assert len(texts) >= 0.999 * len(told)
    assert len(texts & {story.text for story in grammar.sample(2_000, "others")}) <= 2


# ---- the notation -------------------------------------------------------------------------------------------


def test_sentences_and_weights_are_read():
    made = read_grammar('STORY\n    3: One, <two>. / "{Hero}!" [hero: name] LAST\n    -\ntwo\n    two\nLAST\n    End.', "name\nme")
    assert made.rules["STORY"] == (
        Option(
            0.75, ("One, ", Symbol("two"), ".", "\n", '"', Slot("hero", None, True), '!"', "\n", Draw(("hero",), "name"), Symbol("LAST"))
        ),
        Option(0.25, ()),
    )


@pytest.mark.parametrize(
    "rules, message",
    [
        ("STORY\n    NEXT", "NEXT, which is not a rule"),
        ("    NEXT\nSTORY", "'NEXT' stands before the first rule"),
        ("STORY\n    [hero: names] {hero}.", "names, which is not a table"),
        ("STORY\n    {hero}.", "hero, which is never drawn"),
        ("STORY\n    [hero: name] {hero.her}.", "no such column"),
        ("STORY\n    [hero: name] [hero: toy] {hero}.", "two tables"),
        ("STORY\n    NEXT\nNEXT\n    -\n    STORY", "contains itself"),
    ],
)
def test_mistakes_are_named(rules, message):
    with pytest.raises(ValueError, match=message):
        read_grammar(rules, SMALL_POOLS)
