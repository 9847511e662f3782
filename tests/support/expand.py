"""Operations that no migration may do while programs of the release before it go on, read from its SQL."""

import re
from io import StringIO

import sqlparse
from alembic import command
from alembic.script import ScriptDirectory

from scorebeat.db.schema import migrate
from scorebeat.db.schema.migrations.releases import contracted

LARGE = ("batches", "quarantine")
"""Tables of the ledger on which an index takes long, and a lock keeps commits waiting."""

_ON_LARGE = rf"scorebeat\.(?:{'|'.join(LARGE)})\b"
_REFUSED = {
    # a check that a wider one of the same name replaces: what programs of the release write, it still allows
    r"\bDROP (?!NOT NULL|INDEX CONCURRENTLY IF EXISTS|CONSTRAINT (\S+), ADD CONSTRAINT \1 CHECK .* NOT VALID$)": (
        "takes away what programs may use"
    ),
    r"\bRENAME\b": "renames what programs use",
    r"^REVOKE\b(?! ALL ON FUNCTION .* FROM PUBLIC$)": "takes a right away",  # PUBLIC has a new function, and no old one
    r"\bALTER COLUMN \S+ (?:SET DATA )?TYPE\b": "rewrites the table under a lock",
    r"\bSET NOT NULL\b": "refuses what programs write, and reads the whole table under a lock",
    r"\bADD COLUMN \S+ (?!.*\bDEFAULT\b).*\bNOT NULL\b": "wants what programs do not write",
    r"\bADD COLUMN .*(?:SERIAL\b|\bIDENTITY\b|\bSTORED\b|\bDEFAULT (?!now\(\)|CAST\(|'|-?\d|true|false))": (
        "rewrites the table under a lock"
    ),
    r"\bADD (?:CONSTRAINT \S+ )?(?:CHECK|FOREIGN KEY)\b(?!.*\bNOT VALID$)": "reads the whole table under a lock",
    r"\bADD (?:CONSTRAINT \S+ )?(?:UNIQUE|PRIMARY KEY|EXCLUDE)\b(?!.*\bUSING INDEX\b)": "makes an index under a lock",
    rf"^CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY).*\bON {_ON_LARGE}": "makes an index under a lock",
    rf"^(?:UPDATE|DELETE FROM) {_ON_LARGE}": "locks rows that programs work on",
    r"^(?:TRUNCATE|LOCK)\b": "locks a whole table",
}


def later_than(revision: str) -> dict[str, list[str]]:
    """The statements of each migration after the revision, as Alembic would run them."""
    newest = ScriptDirectory.from_config(migrate.config()).get_current_head()
    if newest == revision:
        return {}
    config = migrate.config()
    config.output_buffer = StringIO()
    command.upgrade(config, f"{revision}:head", sql=True)
    _, *parts = re.split(r"^-- Running upgrade \S+ -> (\S+)$", config.output_buffer.getvalue(), flags=re.MULTILINE)
    return {name: _statements(sql) for name, sql in zip(parts[::2], parts[1::2], strict=True)}


def refusals(revision: str) -> list[str]:
    """Forbidden operations of migrations after the revision, with their statements; `contract_of` allows them."""
    scripts = ScriptDirectory.from_config(migrate.config())
    found = []
    for name, statements in later_than(revision).items():
        if contracted(scripts.get_revision(name)) is None:
            found += [f"{name} {why}: {one}" for one in statements for why in _problems(one)]
            found += _beside_an_index(name, statements)
    return found


def _problems(statement: str) -> list[str]:
    return [why for pattern, why in _REFUSED.items() if re.search(pattern, statement, re.IGNORECASE)]


def _beside_an_index(name: str, statements: list[str]) -> list[str]:
    """Other operations beside an index that is made concurrently are committed alone, so a failure would leave them."""
    if not any("INDEX CONCURRENTLY" in one for one in statements):
        return []
    alone = re.compile(
        r"(?:CREATE (?:UNIQUE )?|DROP )INDEX CONCURRENTLY|SET lock_timeout|(?:BEGIN|COMMIT)$|UPDATE "
        r"scorebeat\.alembic_version"
    )
    return [f"{name} is not undone when its index fails: {one}" for one in statements if not alone.match(one)]


def _statements(sql: str) -> list[str]:
    """Without comments and literals, so that a word in them is not taken for a command."""
    bare = re.sub(r"\$(\w*)\$.*?\$\1\$", "''", sql, flags=re.DOTALL)
    split = [sqlparse.format(one, strip_comments=True).strip().rstrip(";") for one in sqlparse.split(bare)]
    return [re.sub(r"'(?:[^']|'')*'", "''", " ".join(one.split())) for one in split if one]
