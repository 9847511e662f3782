"""The compiled pass: UTF-8 to words, n-grams, weights and scores. Imported only where a model is scored by it.

Integers are int64 throughout: numba makes a float of int64 and uint64 together.
"""

from typing import Any

import numpy as np
from numba import njit

from scorebeat.models.formats.sklearn.compiled.layout import (
    CHANGES,
    EMPTY,
    IS_TOKEN,
    IS_WORD,
    NEEDS_PYTHON,
    UNKNOWN,
)

_PRIME = 1099511628211
"""Of the hash FNV-1a of 64 bits."""
_SPREAD = -7046029254386353131
"""2^64 divided by the golden ratio, as int64: multiplied by it, near numbers lie far apart."""
_SHORT = 7
"""Bytes of a word that its key holds as they are; the key of a longer word is a hash of it, and negative."""
_LONG = -(1 << 63)
_LOW = 0xFFFFFFFF


@njit  # type: ignore[untyped-decorator]
def longer(key: int, length: int, byte: int) -> Any:
    """The key of a word of `length` bytes, and of one byte more."""
    if length < _SHORT:
        return (key << 8) | byte
    return (key ^ byte) * _PRIME


@njit  # type: ignore[untyped-decorator]
def whole(key: int, length: int) -> Any:
    """The key of a word that is complete."""
    return (length << 56) | key if length <= _SHORT else key | _LONG


@njit  # type: ignore[untyped-decorator]
def slot_of(key: int, mask: int) -> Any:
    """The slot where the search for a key begins."""
    mixed = key * _SPREAD
    return (mixed ^ (mixed >> 32)) & mask


@njit  # type: ignore[untyped-decorator]
def find_word(text: Any, begin: int, end: int, key: int, words: Any, starts: Any, letters: Any) -> Any:
    """The number of the word text[begin:end]. A long one's key only finds candidates: the bytes are compared."""
    mask, length = words.shape[0] - 1, end - begin
    key = whole(key, length)
    slot = slot_of(key, mask)
    while words[slot, 1] != EMPTY:
        if words[slot, 0] == key:
            number, index = words[slot, 1] >> 32, words[slot, 1] & _LOW
            if length <= _SHORT:
                return np.int64(number)
            start = starts[index]
            if starts[index + 1] - start == length:
                at = np.int64(0)
                while at < length and letters[start + at] == text[begin + at]:
                    at += 1
                if at == length:
                    return np.int64(number)
        slot = (slot + 1) & mask
    return np.int64(UNKNOWN)


@njit  # type: ignore[untyped-decorator]
def find_gram(shorter: int, word: int, grams: Any, sketch: Any) -> Any:
    """The number of the n-gram of a shorter one and one more word.

    Most pairs of words are in no table. `sketch` says so of nearly all of them, and fits a cache that is faster: a bit
    for each key, which several keys may share (Bloom's filter with one hash).
    """
    key = (shorter << 32) | word
    bit = slot_of(key, 8 * sketch.shape[0] - 1)
    if not (sketch[bit >> 3] >> (bit & 7)) & 1:
        return np.int64(UNKNOWN)
    mask = grams.shape[0] - 1
    slot = slot_of(key, mask)
    while grams[slot, 1] != EMPTY:
        if grams[slot, 0] == key:
            return np.int64(grams[slot, 1])
        slot = (slot + 1) & mask
    return np.int64(UNKNOWN)


def fill_words(words: Any, numbers: Any, starts: Any, letters: Any) -> None:
    """Put all words into empty slots: of each its key, its number and its position among the words."""
    mask = words.shape[0] - 1
    for index in range(numbers.shape[0]):
        start, length = starts[index], starts[index + 1] - starts[index]
        key = np.int64(0)
        for at in range(length):
            key = longer(key, at, np.int64(letters[start + at]))
        key = whole(key, length)
        slot = slot_of(key, mask)
        while words[slot, 1] != EMPTY:
            slot = (slot + 1) & mask
        words[slot, 0], words[slot, 1] = key, (numbers[index] << 32) | index


def fill_grams(grams: Any, sketch: Any, entries: Any) -> None:
    """Put all n-grams into empty slots, of each its key and its number, and set the bits of their keys."""
    mask = grams.shape[0] - 1
    for index in range(entries.shape[0]):
        key = (entries[index, 0] << 32) | entries[index, 1]
        slot = slot_of(key, mask)
        while grams[slot, 1] != EMPTY:
            slot = (slot + 1) & mask
        grams[slot, 0], grams[slot, 1] = key, entries[index, 2]
        bit = slot_of(key, 8 * sketch.shape[0] - 1)
        sketch[bit >> 3] |= 1 << (bit & 7)


@njit  # type: ignore[untyped-decorator]
def rotated(value: int, bits: int) -> Any:
    return ((value << bits) | (value >> (32 - bits))) & _LOW


@njit  # type: ignore[untyped-decorator]
def murmur(text: Any, start: int, end: int) -> Any:
    """MurmurHash3 (x86, 32 bits, seed 0) of text[start:end], as a signed number. By Austin Appleby's description."""
    hashed = np.int64(0)
    whole = start + (end - start) // 4 * 4
    for at in range(start, whole, 4):
        block = (
            np.int64(text[at])
            | (np.int64(text[at + 1]) << 8)
            | (np.int64(text[at + 2]) << 16)
            | (np.int64(text[at + 3]) << 24)
        )
        block = (block * 0xCC9E2D51) & _LOW
        block = (rotated(block, 15) * 0x1B873593) & _LOW
        hashed = (rotated(hashed ^ block, 13) * 5 + 0xE6546B64) & _LOW
    block = np.int64(0)
    for at in range(end - 1, whole - 1, -1):
        block = (block << 8) | np.int64(text[at])
    if whole < end:
        block = (block * 0xCC9E2D51) & _LOW
        hashed ^= (rotated(block, 15) * 0x1B873593) & _LOW
    hashed ^= end - start
    hashed = ((hashed ^ (hashed >> 16)) * 0x85EBCA6B) & _LOW
    hashed = ((hashed ^ (hashed >> 13)) * 0xC2B2AE35) & _LOW
    hashed ^= hashed >> 16
    return hashed - 0x100000000 if hashed >= 0x80000000 else hashed


@njit  # type: ignore[untyped-decorator]
def decoded(data: Any, at: int, end: int) -> Any:
    """The character that begins at data[at], and its length in bytes; (-1, 0) if that is no UTF-8."""
    first = np.int64(data[at])
    if first < 0x80:
        return first, np.int64(1)
    if first < 0xC2:
        return np.int64(-1), np.int64(0)
    length, least = np.int64(2), np.int64(0x80)
    character = first & 0x1F
    if first >= 0xF0:
        length, least, character = np.int64(4), np.int64(0x10000), first & 0x07
    elif first >= 0xE0:
        length, least, character = np.int64(3), np.int64(0x800), first & 0x0F
    if first > 0xF4 or at + length > end:
        return np.int64(-1), np.int64(0)
    for following in range(at + 1, at + length):
        if np.int64(data[following]) & 0xC0 != 0x80:
            return np.int64(-1), np.int64(0)
        character = (character << 6) | (np.int64(data[following]) & 0x3F)
    if character < least or character > 0x10FFFF or 0xD800 <= character <= 0xDFFF:
        return np.int64(-1), np.int64(0)
    return character, length


@njit  # type: ignore[untyped-decorator]
def encoded(character: int, text: Any, at: int) -> Any:
    """Write the character's UTF-8 to text[at:]; returns the position after it."""
    if character < 0x80:
        text[at] = character
        return at + 1
    if character < 0x800:
        text[at] = 0xC0 | (character >> 6)
        text[at + 1] = 0x80 | (character & 0x3F)
        return at + 2
    if character < 0x10000:
        text[at] = 0xE0 | (character >> 12)
        text[at + 1] = 0x80 | ((character >> 6) & 0x3F)
        text[at + 2] = 0x80 | (character & 0x3F)
        return at + 3
    text[at] = 0xF0 | (character >> 18)
    text[at + 1] = 0x80 | ((character >> 12) & 0x3F)
    text[at + 2] = 0x80 | ((character >> 6) & 0x3F)
    text[at + 3] = 0x80 | (character & 0x3F)
    return at + 4


def add_scores(  # noqa: C901, PLR0912, PLR0913, PLR0915, PLR0917 -- one pass, whose state is in registers
    data: Any,
    offsets: Any,
    kinds: Any,
    lower: Any,
    least: int,
    is_bounded: bool,
    shortest_gram: int,
    longest_gram: int,
    words: Any,
    starts: Any,
    letters: Any,
    first_stop_word: int,
    grams: Any,
    sketch: Any,
    is_hashed: bool,
    is_signed: bool,
    is_binary: bool,
    first_norm: int,
    is_sublinear: bool,
    last_norm: int,
    weights: Any,
    scores: Any,
    unscored: Any,
) -> None:
    """Add the scores of data[offsets[row]:offsets[row + 1]] to each row of `scores` that is not `unscored`.

    `weights` has of each feature its idf, then its weight for each score. Sets `unscored` for a text with a character
    whose lower case only Python knows, or that is no UTF-8.
    """
    features, outputs = weights.shape[0], weights.shape[1] - 1
    longest = np.int64(0)
    for row in range(offsets.shape[0] - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    text = np.empty(2 * longest + 8, np.uint8)
    counts = np.zeros((features, 2), np.int32)  # of each feature: the number of the text that has it, and how often
    found = np.empty(features, np.int32)
    nodes = np.full(longest_gram + 1, UNKNOWN, np.int64)
    begins = np.zeros(longest_gram + 1, np.int64)
    row_scores = np.empty(outputs, np.float64)
    plain = np.zeros(256, np.uint8)  # of each byte that is a character of a token by itself: its lower case; else 0
    for byte in range(0x80):
        bits = np.int64(kinds[byte])
        if bits & IS_TOKEN and not bits & NEEDS_PYTHON:
            plain[byte] = lower[byte] if bits & CHANGES else byte
    logarithms = np.ones(256, np.float64)
    for times in range(1, 256):
        logarithms[times] = np.log(float(times)) + 1.0

    for row in range(offsets.shape[0] - 1):
        if unscored[row]:
            continue
        at, end = offsets[row], offsets[row + 1]
        count = tokens = np.int64(0)
        nodes[:] = UNKNOWN
        written = np.int64(0)
        kind = np.int64(0)
        while True:
            # to the next token
            before, character, size = kind, np.int64(0), np.int64(1)
            while at < end:
                character = np.int64(data[at])
                if character >= 0x80:
                    character, size = decoded(data, at, end)
                    if character < 0:
                        break
                kind = np.int64(kinds[character])
                if kind & (IS_TOKEN | NEEDS_PYTHON):
                    break
                before = kind
                at += size
                size = np.int64(1)
            if at >= end:
                break
            # through it
            begin = written
            key = further = np.int64(0)  # bytes of the token beyond one for each character
            while at < end:
                # characters of one byte, which most are: a loop for the key of a short word, one for that of a long one
                folded = np.int64(1)
                short_end = min(end, at + _SHORT - (written - begin))
                while at < short_end:
                    folded = np.int64(plain[data[at]])
                    if folded == 0:
                        break
                    key = (key << 8) | folded
                    text[written] = folded
                    written += 1
                    at += 1
                while folded and at < end:
                    folded = np.int64(plain[data[at]])
                    if folded == 0:
                        break
                    key = (key ^ folded) * _PRIME
                    text[written] = folded
                    written += 1
                    at += 1
                if at >= end:
                    break
                character = np.int64(data[at])
                size = np.int64(1)
                if character >= 0x80:
                    character, size = decoded(data, at, end)
                    if character < 0:
                        break
                kind = np.int64(kinds[character])
                if not kind & IS_TOKEN:
                    break
                at += size
                if kind & CHANGES:
                    character = np.int64(lower[character])
                if character < 0x80:
                    text[written] = character
                    key = longer(key, written - begin, character)
                    written += 1
                else:
                    start = written
                    written = encoded(character, text, written)
                    further += written - start - 1
                    for byte in range(start, written):
                        key = longer(key, byte - begin, np.int64(text[byte]))
            if character < 0 or kind & NEEDS_PYTHON:
                unscored[row] = True
                break
            after = np.int64(0) if at >= end else kind
            if written - begin - further < least or (is_bounded and (before | after) & IS_WORD):
                written = begin
                continue
            word = find_word(text, begin, written, key, words, starts, letters)
            if word >= first_stop_word:
                written = begin
                continue
            tokens += 1
            for gram in range(longest_gram, 0, -1):
                amount = np.int32(1)
                if is_hashed:
                    begins[gram] = begins[gram - 1] if gram > 1 else begin
                    if gram < shortest_gram or gram > tokens:
                        continue
                    number = murmur(text, begins[gram], written)
                    column = abs(number) % features
                    if number == -2147483648:  # scikit-learn's way around an overflow
                        column = (2147483647 - (features - 1)) % features
                    if is_signed and number < 0:
                        amount = np.int32(-1)
                else:
                    if gram == 1:
                        nodes[1] = word
                    elif word == UNKNOWN or nodes[gram - 1] == UNKNOWN:
                        nodes[gram] = UNKNOWN
                    else:
                        nodes[gram] = find_gram(nodes[gram - 1], word, grams, sketch)
                    column = nodes[gram]
                    if gram < shortest_gram or column == UNKNOWN or column >= features:
                        continue
                if counts[column, 0] != row + 1:
                    counts[column, 0] = row + 1
                    counts[column, 1] = amount
                    found[count] = column
                    count += 1
                else:
                    counts[column, 1] += amount
            if is_hashed:  # an n-gram is one piece of the text, with a space between words
                text[written] = 0x20
                written += 1
            else:
                written = np.int64(0)
        if unscored[row]:
            continue

        # the norm of a text divides all its values: its scores are divided instead, and an earlier norm cancels out
        norm, total = last_norm or first_norm, 0.0
        row_scores[:] = 0.0
        first = second = third = 0.0  # of most models all scores: registers are faster than memory
        for index in range(count):
            column = np.int64(found[index])
            often = np.int64(counts[column, 1])
            value = 1.0
            if not is_binary:
                value = float(often)
                if is_sublinear:
                    value = logarithms[often] if often < 256 else np.log(value) + 1.0
            measured = value
            value *= weights[column, 0]
            if last_norm:
                measured = value
            total += measured * measured if norm == 2 else abs(measured)
            first += value * weights[column, 1]
            if outputs > 1:
                second += value * weights[column, 2]
            if outputs > 2:
                third += value * weights[column, 3]
            for output in range(3, outputs):
                row_scores[output] += value * weights[column, output + 1]
        row_scores[0] = first
        if outputs > 1:
            row_scores[1] = second
        if outputs > 2:
            row_scores[2] = third
        if norm == 2:
            total = np.sqrt(total)
        if norm and total:
            for output in range(outputs):
                row_scores[output] /= total
        for output in range(outputs):
            scores[row, output] += row_scores[output]
