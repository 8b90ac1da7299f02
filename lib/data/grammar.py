"""A probabilistic grammar that tells little stories, and how much there is to know about them, exactly.

    grammar = story_grammar()
    stories = grammar.sample(4_000, "train")
    stories[0].text, stories[0].hero, stories[0].log_prob
    grammar.entropy, grammar.bytes, grammar.floor      # nats and bytes per story, bits per byte

Every derivation has its own text, so the entropy of the stories is the entropy of the choices that make
them.  It is a sum over the rules, not an estimate: no language model of these stories, however large, has
a lower expected loss.  A small model's distance from this floor is what it has not learnt.

Notation.  Rules whose name is in capitals make whole sentences, separated by ``/``; the others make words.
``NAME`` and ``<name>`` stand for what a rule makes, ``-`` for nothing.  ``[hero friend: name]`` draws two
different rows of the table ``name``, all equally likely; ``{hero}`` is then the first column of the hero's
row, ``{hero.his}`` the column ``his`` and ``{Hero.his}`` the same with a capital letter.
"""

from __future__ import annotations

import math
import re
from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate
from random import Random

from lib.data.stories import RULES
from lib.data.story_words import POOLS
from lib.system.checks import require

#: Ends a sentence inside a derivation; a space in the text, except after the last sentence.
SENTENCE_END = "\n"

TOKEN = re.compile(
    r"\[(?P<roles>[\w ]+): (?P<pool>\w+)\]|<(?P<words>\w+)>|\b(?P<sentences>[A-Z]{2,})\b"
    r"|\{(?P<role>\w+)(?:\.(?P<form>\w+))?\}"
)


@dataclass(frozen=True)
class Draw:
    """Different rows of one table for these roles, each ordered choice equally likely."""

    roles: tuple[str, ...]
    pool: str


@dataclass(frozen=True)
class Slot:
    """A column of the row that a role has; None: the first column."""

    role: str
    form: str | None
    capital: bool


@dataclass(frozen=True)
class Symbol:
    """What the rule of this name makes."""

    name: str


Part = str | Draw | Slot | Symbol


@dataclass(frozen=True)
class Option:
    """One way to rewrite a rule, with its probability."""

    probability: float
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Story:
    """A sampled story: its sentences, who and what takes which part, and ln p of its text."""

    sentences: tuple[str, ...]
    roles: dict[str, str]
    log_prob: float

    @property
    def text(self) -> str:
        return " ".join(self.sentences)

    @property
    def hero(self) -> str:
        return self.roles["hero"]

    @property
    def friend(self) -> str:
        return self.roles["friend"]


@dataclass(frozen=True, eq=False)
class Grammar:
    """Rules by name, the first of which is the story, and tables: name → rows, column → text."""

    rules: dict[str, tuple[Option, ...]]
    pools: dict[str, tuple[dict[str | None, str], ...]]

    @property
    def start(self) -> str:
        return next(iter(self.rules))

    @cached_property
    def entropy(self) -> float:
        """H in nats per story: H(rule) = Σ_o p_o (-ln p_o + Σ H(parts of o)).

        A draw of k from n rows adds ln n(n - 1) … (n - k + 1), text and slots add nothing.  The end of the
        story is part of it: p(story) is the probability of this text *and no more*.
        """

        def of_part(part: Part) -> float:
            return math.log(math.perm(len(self.pools[part.pool]), len(part.roles))) if isinstance(part, Draw) else 0.0

        return self._expected(lambda option: -math.log(option.probability), of_part)

    @cached_property
    def bytes(self) -> float:
        """Expected length of a story in UTF-8 bytes, without any end marker.

        Slots count with the mean of their column: rows are drawn evenly, whatever the rest of the story.
        """
        pool_of = {
            role: part.pool
            for options in self.rules.values()
            for option in options
            for part in option.parts
            if isinstance(part, Draw)
            for role in part.roles
        }

        def of_part(part: Part) -> float:
            if isinstance(part, Slot):
                rows = self.pools[pool_of[part.role]]
                return sum(len(row[part.form].encode()) for row in rows) / len(rows)
            return len(part.encode()) if isinstance(part, str) else 0.0

        return self._expected(lambda option: 0.0, of_part) - len(SENTENCE_END)

    @property
    def floor(self) -> float:
        """The lowest expected loss in bits per byte: ``entropy / ln 2 / bytes``.

        For a model that predicts whole stories, each with its end marker: the marker's loss is in the
        numerator, as it is in ``entropy``, and the marker is not a byte of the text.  The stories of a small
        split have their own mean of -ln p, which differs from ``entropy`` by chance.
        """
        return self.entropy / math.log(2) / self.bytes

    def sample(self, count: int, seed: int | str) -> list[Story]:
        """The first ``count`` stories of the endless stream that ``seed`` stands for."""
        # Only random() is used, whose sequence Python promises to keep.
        random = Random(seed).random
        return [self._tell(random) for _ in range(count)]

    def _expected(self, of_option: Callable[[Option], float], of_part: Callable[[Part], float]) -> float:
        """Mean over all derivations of a sum over their options and parts."""

        @cache
        def of_rule(name: str) -> float:
            return math.fsum(
                option.probability
                * (
                    of_option(option)
                    + math.fsum(of_rule(part.name) if isinstance(part, Symbol) else of_part(part) for part in option.parts)
                )
                for option in self.rules[name]
            )

        return of_rule(self.start)

    @cached_property
    def _choices(self) -> dict[str, tuple[list[float], list[tuple[float, tuple[Part, ...]]]]]:
        """Per rule the cumulated probabilities, and per option ln p and its parts, last one first."""
        return {
            name: (
                list(accumulate(option.probability for option in options[:-1])),
                [(math.log(option.probability), option.parts[::-1]) for option in options],
            )
            for name, options in self.rules.items()
        }

    def _tell(self, random: Callable[[], float]) -> Story:
        rows: dict[str, dict[str | None, str]] = {}
        told: list[str] = []
        ahead: list[Part] = [Symbol(self.start)]
        log_prob = 0.0
        while ahead:
            part = ahead.pop()
            if isinstance(part, str):
                told.append(part)
            elif isinstance(part, Slot):
                value = rows[part.role][part.form]
                told.append(value[0].upper() + value[1:] if part.capital else value)
            elif isinstance(part, Symbol):
                bounds, options = self._choices[part.name]
                log_p, parts = options[bisect(bounds, random())]
                log_prob += log_p
                ahead.extend(parts)
            else:
                pool = list(self.pools[part.pool])
                for role in part.roles:
                    log_prob -= math.log(len(pool))
                    rows[role] = pool.pop(int(random() * len(pool)))
        sentences = tuple("".join(told).removesuffix(SENTENCE_END).split(SENTENCE_END))
        return Story(sentences, {role: row[None] for role, row in rows.items()}, log_prob)


def read_grammar(rules: str, pools: str) -> Grammar:
    """A grammar from its text (notation above).

    Raises ValueError for a rule, table, role or column that does not exist, a role with two tables, and
    for a rule that contains itself: its stories could go on for ever.
    """
    options: dict[str, list[tuple[int, str]]] = {}
    known: list[tuple[int, str]] | None = None
    for line in filter(str.strip, rules.splitlines()):
        if not line[0].isspace():
            known = options.setdefault(line.strip(), [])
        elif known is None:
            raise ValueError(f"{line.strip()!r} stands before the first rule: a rule's name is not indented")
        else:
            weight, colon, text = line.strip().partition(": ")
            known.append((int(weight), text) if colon and weight.isdecimal() else (1, line.strip()))
    read = {
        name: tuple(Option(weight / sum(w for w, _ in lines), _parts(text, whole=name.isupper())) for weight, text in lines)
        for name, lines in options.items()
    }
    tables = [[[cell.strip() for cell in line.split("|")] for line in block.splitlines()] for block in re.split(r"\n\s*\n", pools.strip())]
    grammar = Grammar(read, {head[0]: tuple({None: row[0], **dict(zip(head, row, strict=True))} for row in rows) for head, *rows in tables})
    _check(grammar)
    return grammar


@cache
def story_grammar() -> Grammar:
    """The book's own grammar, :mod:`lib.data.stories`."""
    return read_grammar(RULES, POOLS)


def _parts(text: str, whole: bool) -> tuple[Part, ...]:
    """The parts of an option; ``whole`` sentences are separated by ``/`` and get their ends here."""
    parts, place = [], 0
    for match in TOKEN.finditer(text):
        parts.append(text[place : match.start()])
        place, found = match.end(), match.groupdict()
        if found["roles"]:
            parts.append(Draw(tuple(found["roles"].split()), found["pool"]))
        elif found["role"]:
            parts.append(Slot(found["role"].lower(), found["form"], found["role"][0].isupper()))
        else:
            parts.append(Symbol(found["words"] or found["sentences"]))
    parts.append(text[place:])
    if text == "-":
        return ()
    if not whole:
        return tuple(filter(None, parts))
    return _sentences(parts)


def _sentences(parts: list[Part]) -> tuple[Part, ...]:
    """Parts with each sentence's end put in: at ``/``, before and after what makes sentences itself, at the end."""
    finished, sentence = [], []

    def close() -> None:
        if sentence and isinstance(sentence[0], str):
            sentence[0] = sentence[0].lstrip()
        if sentence and isinstance(sentence[-1], str):
            sentence[-1] = sentence[-1].rstrip()
        if any(sentence):
            finished.extend([*filter(None, sentence), SENTENCE_END])
        sentence.clear()

    for part in parts:
        if isinstance(part, str):
            first, *others = part.split("/")
            sentence.append(first)
            for piece in others:
                close()
                sentence.append(piece)
        elif isinstance(part, Draw) or isinstance(part, Symbol) and part.name.isupper():
            close()
            finished.append(part)
        else:
            sentence.append(part)
    close()
    return tuple(finished)


def _check(grammar: Grammar) -> None:
    tables: dict[str, str] = {}
    parts = [(name, part) for name, options in grammar.rules.items() for option in options for part in option.parts]
    for name, part in parts:
        if isinstance(part, Symbol):
            require(part.name in grammar.rules, f"{name} refers to {part.name}, which is not a rule")
        elif isinstance(part, Draw):
            require(part.pool in grammar.pools, f"{name} draws from {part.pool}, which is not a table")
            for role in part.roles:
                require(tables.setdefault(role, part.pool) == part.pool, f"{role} is drawn from two tables")
    for name, part in parts:
        if isinstance(part, Slot):
            require(part.role in tables, f"{name} uses {part.role}, which is never drawn")
            require(
                part.form in grammar.pools[tables[part.role]][0],
                f"{name} uses {part.role}.{part.form}: the table {tables[part.role]} has no such column",
            )

    def visit(name: str, above: tuple[str, ...]) -> None:
        require(name not in above, f"{name} contains itself")
        for option in grammar.rules[name]:
            for part in option.parts:
                if isinstance(part, Symbol):
                    visit(part.name, (*above, name))

    visit(grammar.start, ())
