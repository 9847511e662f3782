"""Settings: environment variables and `.env`, validated once, all mistakes together."""

import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from scorebeat.core.broker_url import TlsFiles, tls_mistakes
from scorebeat.core.errors import SettingsError
from scorebeat.core.text.durations import format_duration, parse_duration
from scorebeat.core.urls import BROKER_URL, DATABASE_URL, broker_url, database_url, redact

PREFIX = "SCOREBEAT_"
DOTENV = ".env"

_KUBERNETES = re.compile(r"SCOREBEAT_(.*_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT|PORT_\d+_(TCP|UDP)(_.+)?)")
"""Variables that Kubernetes sets by itself for a service named `scorebeat`; nobody mistyped them."""


def _duration(value: object) -> object:
    """Plain seconds, or a number and s, m, h or d."""
    if not isinstance(value, str):
        return value
    plain = re.fullmatch(r"[0-9.]+", value.strip())
    return parse_duration(f"{value.strip()}s" if plain else value)


def _whole_seconds(value: object) -> object:
    duration = _duration(value)
    if not isinstance(duration, timedelta):
        return duration
    if duration % timedelta(seconds=1):
        raise ValueError(f"{value!r} is not a whole number of seconds")
    return duration // timedelta(seconds=1)


def _token(token: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]{16,}", token.get_secret_value()):
        raise ValueError(
            "is no safe token; expected at least 16 ASCII characters without spaces, such as what "
            "`openssl rand -hex 32` prints"
        )
    return token


Duration = Annotated[timedelta, BeforeValidator(_duration), Field(gt=timedelta(0))]
WholeSeconds = Annotated[int, BeforeValidator(_whole_seconds), Field(ge=1)]
DatabaseUrl = Annotated[str, AfterValidator(database_url)]
BrokerUrl = Annotated[str, AfterValidator(broker_url)]


def _key_prefix(prefix: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,100}", prefix):
        raise ValueError(
            f"{prefix!r} cannot begin the broker's keys; expected 1 to 100 of letters, digits, '_', '.', '-' and ':', "
            "such as scorebeat:staging:"
        )
    return prefix


KeyPrefix = Annotated[str, AfterValidator(_key_prefix)]


def _absolute(path: Path) -> Path:
    """A relative path starts at the folder in which the process is now, wherever a model or a library goes later."""
    try:
        return path.expanduser().absolute()
    except FileNotFoundError:
        raise ValueError(
            f"{str(path)!r} is relative, and the folder that it starts at, the working directory, was deleted; "
            "expected an absolute path"
        ) from None
    except RuntimeError:
        raise ValueError(f"{str(path)!r} starts at a home folder, and this user has none") from None


Folder = Annotated[Path, AfterValidator(_absolute)]
PemFile = Folder
"""A file of certificates or of a key."""


def _folder_or_url(value: object) -> object:
    """A URL stays as it is; all else is a folder."""
    return value if isinstance(value, str) and "://" in value else _absolute(Path(str(value)))


def _cache(path: Path) -> Path:
    try:
        return _absolute(path)
    except ValueError:
        if not str(path).startswith("~"):
            raise
        return path  # most processes never use the folder; the error comes when it is used


Cache = Annotated[Path, AfterValidator(_cache)]
FolderOrUrl = Annotated[Path | str, BeforeValidator(_folder_or_url)]


class Settings(BaseSettings):
    """One value an environment variable `SCOREBEAT_<NAME>`; docs/reference/settings.md explains each."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=DOTENV,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: DatabaseUrl | None = None
    """SQLAlchemy URL, `postgresql://user:password@host:5432/database`."""
    broker_url: BrokerUrl | None = None
    """`redis://`, `rediss://` or `redis+socket://` URL."""
    broker_ca: PemFile | None = None
    """CAs of a `rediss://` broker, beside the system's."""
    broker_cert: PemFile | None = None
    """Our certificate for a `rediss://` broker that asks for one."""
    broker_key: PemFile | None = None
    """The key of `broker_cert`, if that file does not hold it."""
    broker_prefix: KeyPrefix | None = None
    """What all keys and channels on the broker begin with. Unset: what `migrate` made for this ledger."""
    jobs: Folder = Path("jobs.toml")
    prices: Folder = Path("prices.toml")
    artifacts: FolderOrUrl = Path("artifacts")
    """The store of models: a folder, or any URL that fsspec reads, such as `s3://bucket/models`."""
    cache: Cache = Path("~/.cache/scorebeat")
    """Folder of local copies, if the store is a URL; a user without a home gets an error when it is used."""
    data: Folder = Path(".scorebeat")
    """Folder of the embedded servers."""
    log_format: Literal["text", "json"] = "text"

    claim_ttl: Duration = timedelta(seconds=15)
    """How long a claim lasts unless the worker's parent renews it."""
    heartbeat: Duration = timedelta(seconds=4)
    resend_after: Duration = timedelta(seconds=5)
    """A pending batch sent longer ago is sent again, if its queue is empty."""
    window: int = Field(1_000, ge=1)
    """Messages out a queue at most."""
    max_attempts: int = Field(5, ge=1)
    backoff: Duration = timedelta(seconds=2)
    """Pause before the second attempt; doubled each time, at most `backoff_cap`."""
    backoff_cap: Duration = timedelta(minutes=5)
    batch_time_limit: WholeSeconds = 240
    """Seconds that a model may take for a whole batch; past it the process ends, and chunks are tried."""
    chunk_time_limit: WholeSeconds = 60
    """Likewise for a chunk of 512 rows; past it rows are tried one by one."""
    row_time_limit: WholeSeconds = 30
    """Likewise for one row; past it the row is quarantined."""
    soft_time_limit: WholeSeconds = 3540
    """Seconds an attempt may take in all before it is asked to stop; what it committed stays."""
    time_limit: WholeSeconds = 3600
    """Seconds after which the process of a stuck attempt is killed."""

    api_token: Annotated[SecretStr, AfterValidator(_token)] | None = None
    """The token of the HTTP API's callers. Unset: only /health, /ready and what is public can be called."""
    api_read_public: bool = False
    """Everybody who reaches the HTTP API may read; what writes, scores or shows failures needs the token."""
    api_max_body: int = Field(10 * 1024**2, ge=1)
    """Bytes of a request's body, at most."""
    api_where: bool = False
    """Callers with the API's token may select rows by an SQL condition, which can read all that the role may read."""
    notify_secret: Annotated[SecretStr, AfterValidator(_token)] | None = None
    """Signs what is posted to a job's `notify`. Unset: nothing is signed."""

    def database(self) -> str:
        """The database's URL. Raises SettingsError if it is unset."""
        return _needed("DATABASE_URL", self.database_url, DATABASE_URL)

    def broker(self) -> str:
        """The broker's URL. Raises SettingsError if it is unset."""
        return _needed("BROKER_URL", self.broker_url, BROKER_URL)

    def broker_files(self) -> TlsFiles:
        return TlsFiles(self.broker_ca, self.broker_cert, self.broker_key)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, redact(value) if isinstance(value, str) else value


def load_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings of this process; `overrides` take precedence. Raises SettingsError naming every one that is wrong."""
    overrides = {name: value for name, value in (overrides or {}).items() if value is not None}
    mistakes = list(_unknown(overrides))
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        mistakes += [_explain(one) for one in error.errors()]
    else:
        mistakes += _contradictions(settings)
        if not mistakes:
            return settings
    raise SettingsError("settings cannot be used:\n  " + "\n  ".join(mistakes))


def _needed(name: str, url: str | None, expected: str) -> str:
    if url is None:
        raise SettingsError(
            f"{PREFIX}{name} is not set: set it to {expected}, in the environment or in {DOTENV}, "
            "or start the embedded stack with `scorebeat up`"
        )
    return url


def _unknown(overrides: Mapping[str, Any]) -> Iterator[str]:
    """A message for each name that no setting has, in `overrides`, the environment or `.env`.

    Raises SettingsError if `.env` cannot be read.
    """
    try:
        dotenv = dotenv_values(DOTENV, interpolate=False)
    except OSError as error:
        raise SettingsError(f"{DOTENV}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{DOTENV}: is not UTF-8; save the file as UTF-8") from None
    known = {field.upper(): f"{PREFIX}{field.upper()}" for field in Settings.model_fields}
    variables = {name.upper() for name, value in {**dotenv, **os.environ}.items() if value}
    ours = {name for name in variables if name.startswith(PREFIX) and not _KUBERNETES.fullmatch(name)}
    keywords = {field.upper(): field for field in Settings.model_fields}
    wrong = [(name, keywords) for name in overrides if name not in Settings.model_fields]
    wrong += [(name, known) for name in sorted(ours - set(known.values()))]
    for name, names in wrong:
        close = get_close_matches(name.upper().removeprefix(PREFIX), names, n=1)  # all variables have the prefix
        meant = f"Did you mean {names[close[0]]}?" if close else f"Known: {', '.join(names.values())}."
        yield f"{name} is not a setting. {meant}"


def _explain(error: ErrorDetails) -> str:
    name, kind = f"{PREFIX}{str(error['loc'][0]).upper()}", error["type"]
    if kind == "value_error":
        return f"{name}: {error['ctx']['error']}"
    if kind == "literal_error":
        return f"{name}: expected {error['ctx']['expected']}, got {error['input']!r}"
    if kind.startswith(("int_", "greater_than")):
        return f"{name}: expected a whole number of at least 1, got {error['input']!r}"
    return f"{name}: {error['msg']}"


def _contradictions(settings: Settings) -> Iterator[str]:
    """Settings that are valid alone, but not together."""
    yield from tls_mistakes(settings.broker_url, settings.broker_files())
    if settings.heartbeat * 2 > settings.claim_ttl:
        yield (
            f"{PREFIX}HEARTBEAT is {format_duration(settings.heartbeat)} and {PREFIX}CLAIM_TTL "
            f"{format_duration(settings.claim_ttl)}: a claim must outlast two heartbeats"
        )
    if settings.backoff > settings.backoff_cap:
        yield (
            f"{PREFIX}BACKOFF is {format_duration(settings.backoff)} and {PREFIX}BACKOFF_CAP "
            f"{format_duration(settings.backoff_cap)}: the first pause must not exceed the longest"
        )
    if settings.soft_time_limit >= settings.time_limit:
        yield (
            f"{PREFIX}SOFT_TIME_LIMIT is {settings.soft_time_limit}s and {PREFIX}TIME_LIMIT "
            f"{settings.time_limit}s: a batch must be asked to stop before it is killed"
        )
