"""Finding `:name` in a query: outside of literals, quoted names, comments, dollar quotes and casts.

It reads tokens as PostgreSQL's scanner does. A single colon has a meaning in two constructs of PostgreSQL's own SQL,
the slice of an array (`a[1:n]`) and `json_object(k:v)`; it is left alone there. A query without a `:name` elsewhere is
never changed.
"""

import re
from collections.abc import Iterator, Mapping

# Sets that leave ASCII out: Python takes 13 ms to compile each that names all characters beyond it
_FIRST = r"[^\x00-@\[-^`{-\x7f]"
"""A letter, `_` or a character beyond ASCII."""
_NEXT = r"[^\x00-#%-/:-@\[-^`{-\x7f]"
"""Such a one, a digit or `$`."""
_IDENT = f"{_FIRST}{_NEXT}*"
_CONTINUED = re.compile(r"(?:[ \t\f\v]|--[^\r\n]*)*[\r\n](?:\s|--[^\r\n]*[\r\n])*'")
"""Between two parts of one literal: blanks and comments with a line break among them."""
_TOKEN = re.compile(
    rf"""
      (?P<blank> \s+ | --[^\r\n]* )
    | (?P<comment> /\* )
    | (?P<escaped> [eE]' )
    | (?P<plain> (?: [uU]& | [bBxXnN] )? ' )
    | (?P<quoted> (?: [uU]& )? "(?: [^"] | "" )*"? )
    | (?P<dollar> \$(?: {_FIRST}(?:(?!\$){_NEXT})* )?\$ )
    | (?P<word> {_IDENT} )
    | (?P<number> \$?\d[\w.]* )
    | (?P<cast> :: | := )
    | (?P<name> : (?={_IDENT}) )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(_IDENT)
_BODY = {False: re.compile(r"(?:[^']|'')*'?", re.DOTALL), True: re.compile(r"(?:[^'\\]|''|\\.)*'?", re.DOTALL)}
"""The rest of a literal, without and with backslashes that escape."""
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_WITH_COLONS = frozenset({"json_object", "json_objectagg"})
_ARRAY, _SLICE, _JSON, _OTHER = "array", "slice", "json", "other"


def find(query: str, *, backslashes: bool = False) -> list[str]:
    """The names, each once, in their order.

    `backslashes`: whether a backslash escapes in a plain literal, as it does if standard_conforming_strings is off.
    """
    return list(dict.fromkeys(query[first + 1 : end] for first, end in _spans(query, backslashes)))


def replace(query: str, values: Mapping[str, str], *, backslashes: bool = False) -> str:
    """The query with an SQL expression instead of each name. Raises KeyError for a name without a value."""
    parts, done = [], 0
    for first, end in _spans(query, backslashes):
        parts += [query[done:first], values[query[first + 1 : end]]]
        done = end
    return "".join([*parts, query[done:]])


def _spans(query: str, backslashes: bool) -> Iterator[tuple[int, int]]:
    """Start and end of each name, its colon included."""
    brackets: list[str] = []
    """Kinds of the open brackets, from the outermost to the innermost."""
    before, position = "", 0
    """The token before, without blanks; an operand that is no word is `'`."""
    while position < len(query):
        found = _TOKEN.match(query, position)
        assert found is not None  # noqa: S101 -- `other` takes any character
        kind, read, position = str(found.lastgroup), found.group(), found.end()
        if kind == "blank":
            continue
        if kind == "comment":
            position = _end_of_comment(query, position)
            continue
        if kind == "name" and _is_separator(brackets, before, query[position - 2 : position - 1]):
            kind = "other"
        if kind == "name":
            end = _end(_NAME, query, position)
            yield position - 1, end
            position = end
        elif kind in ("escaped", "plain"):
            escapes = kind == "escaped" or (backslashes and read[0] in "'nN")
            position = _end(_BODY[escapes], query, position)
            while (more := _CONTINUED.match(query, position)) is not None:
                position = _end(_BODY[escapes], query, more.end())
        elif kind == "dollar":
            end = query.find(read, position)
            position = len(query) if end < 0 else end + len(read)
        elif kind == "other":
            _note_bracket(brackets, read, before)
        before = read.lower() if kind in ("word", "other", "cast") else "'"


def _end(pattern: re.Pattern[str], query: str, position: int) -> int:
    found = pattern.match(query, position)
    return found.end() if found is not None else position


def _end_of_comment(query: str, position: int) -> int:
    """Comments between `/*` and `*/` are nested."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(query, position):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(query)


def _note_bracket(brackets: list[str], read: str, before: str) -> None:
    if read == "[":
        is_array = before == "array" or (before in ("[", ",") and brackets[-1:] == [_ARRAY])
        brackets.append(_ARRAY if is_array else _SLICE)
    elif read == "(":
        brackets.append(_JSON if before in _WITH_COLONS else _OTHER)
    elif read in ("]", ")") and brackets:
        brackets.pop()


def _is_separator(brackets: list[str], before: str, character_before: str) -> bool:
    """Whether the colon belongs to a slice or to a JSON object; after another such colon a name begins."""
    inside = brackets[-1] if brackets else _OTHER
    if inside == _SLICE:
        return before != ":"
    if inside == _JSON:
        is_operand = before in ("'", ")", "]") or before[:1].isidentifier()
        return is_operand and (before not in ("key", "value") or not character_before.isspace())
    return False
