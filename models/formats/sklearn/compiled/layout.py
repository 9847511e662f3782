"""Numbers that the compiled pass and the tables that it reads have in common."""

IS_TOKEN, IS_WORD, CHANGES, NEEDS_PYTHON = 1, 2, 4, 8
"""Bits of a character: it belongs to a token, `\\w` matches it, it has another lower case, only Python knows which."""
UNKNOWN = -1
"""A word that is in no table; an n-gram that no feature is or begins with."""
EMPTY = -1
"""What a slot without an entry has as its number."""
