"""What the compiled pass knows of each character: whether tokens have it, and its lower case, by the running Python."""

import re
import sys
import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scorebeat.models.formats.sklearn.compiled.layout import CHANGES, IS_TOKEN, IS_WORD, NEEDS_PYTHON
from scorebeat.models.formats.sklearn.compiled.unfit import Unfit

_CLASS = r"\\[wWsSdD]|\[\^?(?:\\.|[^\[\]\\])+\]"
"""A class of characters: `\\w`, `[a-z']`."""
_PATTERN = re.compile(rf"(?:\(\?u\))?(?P<left>\\b)?(?P<classes>(?:{_CLASS})+)(?P<more>\+|\{{\d+,\}})(?P<right>\\b)?")
"""One class, repeated: `\\b\\w\\w+\\b`, `[a-z]{3,}`. Its longest matches are the runs of the class."""


@dataclass(frozen=True)
class Characters:
    """The tokens of a pattern, as runs of characters."""

    kinds: NDArray[np.uint8]
    """For each code point the bits of `layout`; a character with another lower case has the bits of that."""
    lower: NDArray[np.int32]
    """The lower case of each code point that has another one, up to the last of these."""
    least: int
    """Characters that a token has at least."""
    is_bounded: bool
    """Whether a run is a token only if no character that `\\w` matches is before or after it."""

    @property
    def has_space(self) -> bool:
        """Whether a token may have a space within."""
        return bool(self.kinds[ord(" ")] & IS_TOKEN)


def characters(pattern: str, *, is_lowercase: bool) -> Characters:
    """The characters of a token pattern. Raises Unfit if its tokens are no runs of a class of characters."""
    found = _PATTERN.fullmatch(pattern)
    classes = re.findall(_CLASS, found["classes"]) if found is not None else []
    if found is None or len(set(classes)) != 1:
        raise Unfit(f"its token_pattern {pattern!r} is not one class of characters, repeated by + or {{n,}}")
    more = 1 if found["more"] == "+" else int(found["more"][1:-2])
    least, word = len(classes) - 1 + more, _matched(r"\w")
    token = word if classes[0] == r"\w" else _matched(classes[0])
    is_bounded = bool(found["left"] or found["right"])
    if is_bounded and classes[0] == r"\w":
        is_bounded = False  # a longest run has a boundary at both ends
    elif is_bounded and (not (found["left"] and found["right"]) or (token & ~word).any()):
        raise Unfit(f"its token_pattern {pattern!r} has \\b where a token may have characters that \\w does not match")
    if least < 1:
        raise Unfit(f"its token_pattern {pattern!r} matches nothing as well")
    kinds = token * np.uint8(IS_TOKEN) | word * np.uint8(IS_WORD)
    if not is_lowercase:
        return Characters(kinds, np.zeros(0, np.int32), least, is_bounded)
    cases = lower_cases()
    kinds[cases.changed] = kinds[cases.lower[cases.changed]] | CHANGES
    kinds[cases.special] = NEEDS_PYTHON
    return Characters(kinds, cases.lower, least, is_bounded)


@dataclass(frozen=True)
class LowerCases:
    """str.lower of each character alone."""

    changed: NDArray[np.int64]
    """Code points whose lower case is another character."""
    lower: NDArray[np.int32]
    """The lower case of each code point up to the last one that has another."""
    special: NDArray[np.int64]
    """Code points whose lower case is several characters, or depends on the characters around."""


@lru_cache(1)
def lower_cases() -> LowerCases:
    """The lower cases that the running Python has."""
    cased = [each for each in _everything() if each.lower() != each]
    special = [each for each in cased if len(each.lower()) != 1 or _depends_on_others(each)]
    changed = sorted({*cased} - {*special})
    lower = np.arange(max(map(ord, cased)) + 1, dtype=np.int32)
    for each in changed:
        lower[ord(each)] = ord(each.lower())
    return LowerCases(np.array([*map(ord, changed)]), lower, np.array([*map(ord, special)]))


def _depends_on_others(character: str) -> bool:
    """Whether its lower case is another one beside letters, as that of the Greek sigma at the end of a word."""
    alone = character.lower()
    around = ((f"a{character}", 1), (f"{character}a", 0), (f"a{character}a", 1))
    return any(text.lower()[at : at + len(alone)] != alone for text, at in around)


@lru_cache(2)
def _matched(one_class: str) -> NDArray[np.uint8]:
    """For each code point whether the class matches it: 1 or 0."""
    found = np.zeros(sys.maxunicode + 1, np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of `--` in a class, which has its meaning of today
        for run in re.finditer(f"{one_class}+", _everything()):
            found[run.start() : run.end()] = 1
    return found


def _everything() -> str:
    """All code points in order."""
    return "".join(map(chr, range(sys.maxunicode + 1)))
