"""The words and n-grams of a vectorizer, as tables in which the compiled pass finds them."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from sys import intern

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Vocabulary:
    """Every word and n-gram that a feature is or begins with has a number; that of a feature is its column.

    An n-gram is a shorter one and its last word.
    """

    letters: NDArray[np.uint8]
    """The UTF-8 of all words, one after the other."""
    starts: NDArray[np.int64]
    """Where each word begins in `letters`, and where the last one ends."""
    numbers: NDArray[np.int64]
    """The number of each word."""
    first_stop_word: int
    """Stop words, which are no tokens, have the numbers from this one on."""
    grams: NDArray[np.int64]
    """Of each n-gram of several words: the number of the shorter one, of its last word, and its own."""

    @classmethod
    def of(cls, terms: Mapping[str, int], stop_words: Set[str], shortest: int, longest: int) -> "Vocabulary":
        """The tables of the n-grams of `shortest` to `longest` words among the terms, each with its column."""
        free = len(terms)
        # a vectorizer of single words may have words with spaces; one of n-grams has none
        split = {term: term.split(" ") if longest > 1 else [term] for term in terms}
        columns = {
            tuple(map(intern, words)): int(terms[term])
            for term, words in split.items()
            if shortest <= len(words) <= longest
        }
        numbers = {words[0]: column for words, column in columns.items() if len(words) == 1}
        for words in columns:
            for word in words:
                if word not in numbers:
                    numbers[word] = free
                    free += 1
        grams: dict[tuple[int, int], int] = {}
        for words in columns:
            node = numbers[words[0]]
            for at, word in enumerate(words[1:], 2):
                own = columns.get(words[:at])
                key = (node, numbers[word])
                if key not in grams:
                    grams[key] = free if own is None else own
                    free += own is None
                node = grams[key]
        known = {word: number for word, number in numbers.items() if word not in stop_words}
        known |= {word: free + at for at, word in enumerate(sorted(stop_words))}
        encoded = [word.encode("utf-8", "surrogatepass") for word in known]
        return cls(
            np.frombuffer(b"".join(encoded), np.uint8),
            np.cumsum([0, *map(len, encoded)], dtype=np.int64),
            np.array([*known.values()], np.int64),
            free,
            np.array([(*key, node) for key, node in grams.items()], np.int64).reshape(-1, 3),
        )

    def some_words(self, count: int) -> list[str]:
        """Some of the words, from all over the vocabulary."""
        chosen = np.linspace(0, len(self.numbers), count, endpoint=False, dtype=np.int64) if len(self.numbers) else ()
        letters = self.letters.tobytes()
        return [letters[self.starts[at] : self.starts[at + 1]].decode("utf-8", "replace") for at in chosen]


def slots_for(count: int) -> int:
    """A power of two of which at most half is used."""
    return 1 << max(1, (2 * count - 1).bit_length())
