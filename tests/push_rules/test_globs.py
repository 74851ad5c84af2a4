"""Glob-style matching, against a slow but obvious matcher, and against patterns made to be slow."""

from __future__ import annotations

import time
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.globs import WORD_CHARACTERS, compile_glob, compile_word_glob, contains_words

STEPS_MAX = 400_000


def slow_match(pattern: str, text: str) -> bool:
    @cache
    def matches(p: int, t: int) -> bool:
        if p == len(pattern):
            return t == len(text)
        if pattern[p] == "*":
            return matches(p + 1, t) or (t < len(text) and matches(p, t + 1))
        return t < len(text) and pattern[p] in ("?", text[t]) and matches(p + 1, t + 1)

    return matches(0, 0)


def boundaries(text: str) -> list[int]:
    def word(position: int) -> bool:
        return 0 <= position < len(text) and text[position] in WORD_CHARACTERS

    return [n for n in range(len(text) + 1) if n in (0, len(text)) or not (word(n - 1) and word(n))]


patterns = st.text("ab*?- ", max_size=8)
texts = st.text("ab- ", max_size=12)


@given(patterns, texts)
def test_whole_match_agrees_with_the_definition(pattern: str, text: str) -> None:
    assert compile_glob(pattern, steps_max=STEPS_MAX)(text) == slow_match(pattern, text)


@given(patterns, texts)
def test_word_match_agrees_with_the_definition(pattern: str, text: str) -> None:
    edges = boundaries(text)
    expected = any(slow_match(pattern, text[start:end]) for start in edges for end in edges if start <= end)
    assert compile_word_glob(pattern, steps_max=STEPS_MAX)(text) == expected


@pytest.mark.parametrize("text", ["lunch plans", "lunch"])
def test_the_specifications_whole_value_example(text: str) -> None:
    assert compile_glob("lunc?*", steps_max=STEPS_MAX)(text)


@pytest.mark.parametrize("text", [" lunch", "lunc"])
def test_the_specifications_whole_value_counterexample(text: str) -> None:
    assert not compile_glob("lunc?*", steps_max=STEPS_MAX)(text)


@pytest.mark.parametrize("text", ["an example event.", "exple", "an exciting triple-whammy"])
def test_the_specifications_word_example(text: str) -> None:
    assert compile_word_glob("ex*ple", steps_max=STEPS_MAX)(text)


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("cake", "piece of cake", True),
        ("cake", "cake", True),
        ("cake", "cakes", False),
        ("cake", "cup_cake", False),
        ("cake", "pancake", False),
        ("cake", "pancake cake", True),
        ("cake", "(cake)", True),
        ("cake", "écake", True),  # boundaries are defined by ASCII
        ("@room", "hey@room", True),
        ("c++", "i like c++.", True),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("*", "", True),
        ("?", "ab", False),
        ("?", "a b", True),
    ],
)
def test_word_boundaries(pattern: str, text: str, matches: bool) -> None:
    assert compile_word_glob(pattern, steps_max=STEPS_MAX)(text) is matches


def test_a_question_mark_takes_characters_that_the_pattern_names_elsewhere() -> None:
    assert compile_glob("?a*", steps_max=STEPS_MAX)("aab")
    assert compile_word_glob("?a*", steps_max=STEPS_MAX)("aab")


def test_line_breaks_are_characters_like_any_other() -> None:
    assert compile_glob("a*b?c", steps_max=STEPS_MAX)("a\n\nb\nc")
    assert compile_word_glob("tea*time", steps_max=STEPS_MAX)("tea\ntime")


HOSTILE = [
    ("a?" * 200 + "*b", "a" * 65_000),
    ("*a" * 250 + "?b", "a" * 65_000),
    ("a*" * 250 + "b", "a" * 65_000),
    ("a" * 500, "a" * 65_000),
    ("(a-)" * 100, "(a-)" * 16_000),
    ("?" * 500, "ab" * 32_000),
    ("a?a*b" * 100, "aaab" * 16_000),
    ("*" * 512, "a" * 65_000),
    ("(a+)+$", "a" * 65_000),
]


@pytest.mark.parametrize(("pattern", "text"), HOSTILE)
@pytest.mark.parametrize("compile_pattern", [compile_glob, compile_word_glob])
def test_hostile_patterns_stay_fast(pattern: str, text: str, compile_pattern: type) -> None:
    matcher = compile_pattern(pattern, steps_max=STEPS_MAX)
    # The processor's time of the best of three: a backtracking matcher needs hours, other work on
    # the machine none of ours.
    costs = []
    for _ in range(3):
        began = time.process_time()
        matcher(text)
        costs.append(time.process_time() - began)
    assert min(costs) < 0.25


def test_beyond_the_steps_allowed_nothing_matches() -> None:
    assert compile_word_glob("te?", steps_max=100)("tea " + "x" * 200)
    assert not compile_word_glob("te?", steps_max=100)("x " * 60 + "tea")
    assert not compile_word_glob("te?", steps_max=3)("teas")  # where looking ends is no boundary
    assert not compile_glob("*te?", steps_max=100)("x" * 100 + "tea")
    assert not compile_word_glob("tea", steps_max=64)("teapot teacup tea")  # two occurrences are looked at


def test_contains_words_takes_wildcards_literally() -> None:
    assert contains_words("hey *alice*!", "*alice*", 10)
    assert not contains_words("hey alice", "a*", 10)
