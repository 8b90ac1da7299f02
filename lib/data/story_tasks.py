"""Tasks made from stories: what an example of each is, and drawing as many of them as are wanted.

    task = story_task("order", stories, tokenizer, special, context=48, train=2_000, held_out=1_000)

See :mod:`lib.data.tasks` for what they ask.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

from tokenizers import Tokenizer

from lib.data.masked_lm import Special
from lib.data.tasks import STORY_TASKS, Example, Task, TaskSplit, encoded, padded
from lib.system.checks import one_of, require

#: Sentences of one example of "shuffled".
SHUFFLED = 4

#: A hero is mentioned at least so often; a name occurs in at least so many stories.
MENTIONS, STORIES_WITH_NAME = 2, 3

#: Between two sentences; not before whoever said the first.
SENTENCE_ENDS = re.compile(
    r"(?<=[.!?])\s+(?=[A-Z\"“])|(?<=[.!?][\"”])\s+(?=[A-Z\"“])(?!\w+ (?:said|asked|shouted|called|"
    r"replied|cried|yelled|answered|exclaimed|whispered|smiled|laughed)\b)|\n+"
)

#: Story examples that are drawn and encoded at once.
DRAWN_AT_ONCE = 256


def story_task(
    name: str,
    stories: tuple[Sequence[str], Sequence[str], Sequence[str]],
    tokenizer: Tokenizer,
    special: Special,
    context: int,
    train: int,
    held_out: int,
    variant: str = "",
) -> Task:
    """One of :data:`STORY_TASKS`: ``train`` examples from the train stories, ``held_out`` each from validation and test.

    ``stories``: texts of the three splits.  Examples are drawn with a fixed seed, several from a story where they are
    needed, and are independent of how many others are asked for.  Raises ValueError where the stories do not give examples
    that fit the context.
    """
    one_of("task", name, STORY_TASKS)
    names = names_in(stories[0]) if name == "name" else frozenset()
    splits = []
    for part, texts, count in zip(("train", "validation", "test"), stories, (train, held_out, held_out)):
        told = [sentences(text) for text in texts]
        make = maker(name, told, names, context)
        splits.append(drawn(make, Random(f"{name}/{part}"), count, tokenizer, special, context, name))
    return Task(name, 2, variant, *splits)


def sentences(story: str) -> list[str]:
    """A story's sentences: cut after a full stop, exclamation or question mark, or the quotation mark that follows it.

    Who said it stays with what was said: in ``"Look!" Tim said.`` nothing is cut.
    """
    return [part for part in re.split(SENTENCE_ENDS, story.strip()) if part]


def names_in(stories: Sequence[str]) -> frozenset[str]:
    """Words that are always capitals-first, also inside a sentence, and occur in several stories: people's names."""
    inside, lower = Counter(), set()
    for story in stories:
        lower.update(re.findall(r"\b[a-z]+\b", story))
        inside.update(set(re.findall(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b", story)))
    return frozenset(word for word, count in inside.items() if count >= STORIES_WITH_NAME and word.lower() not in lower)


def maker(name: str, told: list[list[str]], names: frozenset[str], context: int) -> Callable[[Random, int], Example | None]:
    """A function (random, label) → an example of this task, or None where the draw gave none."""
    if name == "name":
        # No excerpt of more words than tokens that may be had for it.
        excerpts = [found for story in told if (found := heroes(story, names, (context - 3) // 2))]
        require(len(excerpts) >= 2, "no two of these stories mention a name often enough: give more stories")
        return lambda random, label: two_heroes(random, label, excerpts, names)
    needed = 2 if name == "order" else SHUFFLED
    long_enough = [story for story in told if len(story) >= needed]
    require(long_enough, f"none of these stories has {needed} sentences: give more stories")

    def example(random: Random, label: int) -> Example | None:
        story = random.choice(long_enough)
        start = random.randrange(len(story) - needed + 1)
        chosen = story[start : start + needed]
        if len(set(chosen)) < needed:
            return None
        if label:
            chosen = disordered(random, chosen)
        return (chosen[0], chosen[1], label) if name == "order" else (" ".join(chosen), None, label)

    return example


def disordered(random: Random, parts: list[str]) -> list[str]:
    """The parts in another order, each other one equally likely."""
    while True:
        order = random.sample(range(len(parts)), len(parts))
        if order != sorted(order):
            return [parts[i] for i in order]


def heroes(story: list[str], names: frozenset[str], room: int) -> tuple[str, list[str]] | None:
    """The name that a story mentions most, and runs of adjacent sentences with two mentions of it; None where there is none.

    A run has ``room`` words at most.
    """
    told = [words(sentence) for sentence in story]
    counts = Counter(word for sentence in told for word in sentence if word in names)
    if not counts:
        return None
    hero = counts.most_common(1)[0][0]
    runs = []
    for start in range(len(story)):
        mentions = length = 0
        for end in range(start, len(story)):
            mentions, length = mentions + told[end].count(hero), length + len(told[end])
            if length > room or mentions >= MENTIONS:
                if length <= room:
                    runs.append(" ".join(story[start : end + 1]))
                break
    return (hero, runs) if runs else None


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]+", text)


def two_heroes(random: Random, label: int, excerpts: list[tuple[str, list[str]]], names: frozenset[str]) -> Example | None:
    """Excerpts of two stories that share no name; with label 1 one mention of each hero becomes the other."""
    (hero, runs), (other, others) = random.sample(excerpts, 2)
    first, second = random.choice(runs), random.choice(others)
    if names & set(words(first)) & set(words(second)):
        return None
    if label:
        first, second = replaced(random, first, hero, other), replaced(random, second, other, hero)
    return first, second, label


def replaced(random: Random, text: str, old: str, new: str) -> str:
    """The text with one mention of ``old``, each equally likely, replaced."""
    mentions = [found.span() for found in re.finditer(rf"\b{old}\b", text)]
    start, end = random.choice(mentions)
    return text[:start] + new + text[end:]


def drawn(
    make: Callable[[Random, int], Example | None],
    random: Random,
    count: int,
    tokenizer: Tokenizer,
    special: Special,
    context: int,
    name: str,
) -> TaskSplit:
    """``count`` examples that fit the context, of the two classes in turn."""
    kept: tuple[list, list] = ([], [])  # by label, so that the classes stay balanced whichever has more that do not fit
    tried = 0
    while min(map(len, kept)) < math.ceil(count / 2):
        batch = [example for i in range(DRAWN_AT_ONCE) if (example := make(random, i % 2))]
        for tokens, label in encoded(batch, tokenizer, special):
            if len(tokens) <= context:
                kept[label].append((tokens, label))
        tried += DRAWN_AT_ONCE
        require(
            tried < 100 * (DRAWN_AT_ONCE + count), f"hardly any example of {name!r} fits a context of {context} tokens: choose a longer one"
        )
    return padded([example for pair in zip(*kept) for example in pair][:count], special)
