"""Glob-style patterns (Appendices, "Glob-style matching") that no pattern and no text can make slow.

``*`` matches zero or more characters, ``?`` exactly one. Patterns come from users, texts from
anyone, so nothing here backtracks: a pattern becomes string searches where it can, and otherwise
an automaton whose set of states is one integer, which costs one step a character. What a match
may cost is the caller's to say, in steps (about 0.1 µs each); a text that would need more does
not match.

Matching is case-sensitive: whoever wants it otherwise lowers both sides first, once.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from itertools import islice

Matcher = Callable[[str], bool]

# Push Notifications, "Conditions": a word boundary is the start or end of the value, or any other character.
WORD_CHARACTERS = frozenset(string.ascii_letters + string.digits + "_")

# An occurrence that turns out not to stand between word boundaries costs a new search, up to 3 µs.
STEPS_PER_OCCURRENCE = 32

_WILDCARDS = re.compile(r"[*?]+")


def has_wildcards(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern


def compile_glob(pattern: str, *, steps_max: int) -> Matcher:
    """Whether ``pattern`` matches the whole of a text. Texts over ``steps_max`` characters are
    refused where ``pattern`` holds a ``?`` beside a ``*``; other patterns need no bound."""
    if not has_wildcards(pattern):
        return pattern.__eq__
    if "?" not in pattern:
        return compile_stars(pattern)
    if "*" not in pattern:
        return _compile_question_marks(pattern)
    automaton = _Automaton(pattern)
    literal = _longest_literal(pattern)
    return lambda text: len(text) <= steps_max and literal in text and automaton.matches_whole(text)


def compile_word_glob(pattern: str, *, steps_max: int) -> Matcher:
    """Whether ``pattern`` matches any substring that starts and ends at a word boundary.

    Source: Push Notifications, "Conditions", ``event_match`` on ``content.body``. Only the first
    ``steps_max`` characters of a text are looked at where the pattern has wildcards.
    """
    if has_wildcards(pattern):
        automaton = _Automaton(pattern)
        literal = _longest_literal(pattern)
        return lambda text: literal in text and automaton.matches_words(text, steps_max)
    occurrences_max = max(1, steps_max // STEPS_PER_OCCURRENCE)
    return lambda text: contains_words(text, pattern, occurrences_max)


def contains_words(text: str, words: str, occurrences_max: int) -> bool:
    """Whether ``words``, taken literally, stands in ``text`` between word boundaries; looks at the
    first ``occurrences_max`` occurrences."""
    start = text.find(words)
    for _ in range(occurrences_max):
        if start < 0:
            return False
        if _is_boundary(text, start) and _is_boundary(text, start + len(words)):
            return True
        start = text.find(words, start + 1)
    return False


def _is_boundary(text: str, position: int) -> bool:
    # Either neighbour may be the boundary: "@room" stands at one in "hey@room".
    if position == 0 or position == len(text):
        return True
    return text[position - 1] not in WORD_CHARACTERS or text[position] not in WORD_CHARACTERS


def _longest_literal(pattern: str) -> str:
    return max(_WILDCARDS.split(pattern), key=len)


def compile_stars(pattern: str) -> Matcher:
    """`compile_glob` where ``?`` stands for itself, as in the types of filters."""
    first, *between, last = pattern.split("*")
    middles = tuple(filter(None, between))
    if not middles:
        length_min = len(first) + len(last)
        return lambda text: len(text) >= length_min and text.startswith(first) and text.endswith(last)

    def matches(text: str) -> bool:
        if not (text.startswith(first) and text.endswith(last)):
            return False
        position = len(first)
        end = len(text) - len(last)
        # Taking the leftmost place for each part leaves the most room for the next.
        for part in middles:
            position = text.find(part, position, end)
            if position < 0:
                return False
            position += len(part)
        return True

    return matches


def _compile_question_marks(pattern: str) -> Matcher:
    length = len(pattern)
    fixed = tuple((run.start(), run.group()) for run in re.finditer(r"[^?]+", pattern))
    return lambda text: len(text) == length and all(text.startswith(part, start) for start, part in fixed)


class _Automaton:
    """A glob as a set of states in one integer: bit ``n`` is set while the first ``n`` characters
    of the pattern (``*`` not counted) are matched."""

    __slots__ = ("_masks", "_any_mask", "_star_mask", "_accept")

    def __init__(self, pattern: str) -> None:
        self._masks: dict[str, int] = {}  # character → the states that it leads on from
        self._any_mask = 0
        self._star_mask = 0
        state = 1
        literals: list[tuple[str, int]] = []
        for char in pattern:
            if char == "*":
                self._star_mask |= state
                continue
            if char == "?":
                self._any_mask |= state
            else:
                literals.append((char, state))
            state <<= 1
        for char, mask in literals:
            self._masks[char] = self._masks.get(char, self._any_mask) | mask
        self._accept = state

    def matches_whole(self, text: str) -> bool:
        masks, any_mask, star_mask = self._masks, self._any_mask, self._star_mask
        states = 1
        for char in text:
            states = ((states & masks.get(char, any_mask)) << 1) | (states & star_mask)
            if not states:
                return False
        return bool(states & self._accept)

    def matches_words(self, text: str, length_max: int) -> bool:
        masks, any_mask, star_mask, accept = self._masks, self._any_mask, self._star_mask, self._accept
        states = 0
        after_word = False
        for char in islice(text, length_max):
            in_word = char in WORD_CHARACTERS
            if not (after_word and in_word):  # a boundary: a match may start or end here
                states |= 1
                if states & accept:
                    return True
            states = ((states & masks.get(char, any_mask)) << 1) | (states & star_mask)
            after_word = in_word
        return len(text) <= length_max and bool((states | 1) & accept)
