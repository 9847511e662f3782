"""The errors that Scorebeat raises on purpose; each message has what happened, and what to do."""

import signal
import threading
from difflib import get_close_matches

LONGEST = 2_000
"""Characters of an error or a reason that is stored, logged, posted and shown."""
LONGEST_SHOWN = 60
"""Characters of a person's own value in a message."""


class ScorebeatError(Exception):
    """Work failed for a reason that we can name. The command line prints it and exits with 1."""

    exit_code = 1


class UsageError(ScorebeatError):
    """Wrong usage or configuration: nothing was started, nothing is lost. Exit code 2."""

    exit_code = 2


class SettingsError(UsageError):
    """Environment variables or `.env` hold something unusable, or lack something needed."""


class JobsFileError(UsageError):
    """jobs.toml has mistakes; the message lists all of them, each with its line."""


class PricesFileError(UsageError):
    """prices.toml has mistakes; the message lists all of them, each with its line."""


class WouldRewritePast(UsageError):
    """Prices would change what runs of the past cost; nothing was stored."""


class WouldRemoveAll(UsageError):
    """The jobs file holds no job and the database does; nothing was removed."""


class UnknownName(UsageError):
    """A job, run or model that does not exist; the message lists similar names."""


class QueryError(UsageError):
    """A job's query cannot be used: the message has the reason and what was expected."""


class SourceLocked(ScorebeatError):
    """A table of a job's query is locked; the message names the lock. Nothing is wrong, it is tried again later."""


class SourceChanged(ScorebeatError):
    """A column of the query has another type than when this process read the query; the next attempt reads it again."""


class RunHeld(UsageError):
    """A run of the job is held by its gate: nothing begins before a person decides."""


class SnapshotLost(ScorebeatError):
    """The snapshot of a run is gone, or lacks rows that were planned; nothing of the batch was committed as done."""


class NoDisk(ScorebeatError):
    """There is no disk for the snapshot of a run; nothing of it was left behind."""


class SignatureError(UsageError):
    """The query's columns do not fit the model's inputs."""


class ModelError(ScorebeatError):
    """A model is missing, altered or damaged, or its outputs break its contract."""


class GoldenDiffers(ModelError):
    """A model returns something else than its golden rows have."""


class OutputError(ModelError):
    """A model returned another length, other columns or other types than its contract has."""


class NonsenseError(ModelError):
    """A model returned NaN, infinity or NULL for a row; the row is to blame, or the model for that row."""


class InputError(ModelError):
    """Rows hold values that the model cannot take; the message names the column and counts or rows."""

    def __init__(self, message: str = "", columns: tuple[str, ...] = (), cause: str = "") -> None:
        super().__init__(message)
        self.columns = columns
        """Columns whose values are to blame, if they are known."""
        self.cause = cause
        """What the model itself raised."""


class DeviceMemoryError(ScorebeatError):
    """The device's memory does not hold so many rows at once; fewer of them may fit."""


class NotAllowed(UsageError):
    """A setting of the server does not allow it; the message names the setting."""


class StoreError(UsageError):
    """A model cannot be added to, or read from, the store."""


class ServiceDown(UsageError):
    """PostgreSQL or the broker does not answer or refuses us; no password is ever in the message."""


class PrefixUnknown(ConnectionError):
    """The ledger, which has the prefix of the broker's keys, cannot be read.

    Celery and kombu treat it as a broker that is away: they try again, or raise it to their caller.
    """


class NotPermitted(UsageError):
    """Our role in PostgreSQL lacks a right; the message has the right, and what to do."""


class MigrationFailed(ScorebeatError):
    """A migration could not be done; the message has the ledger's revision."""


class ClaimLost(ScorebeatError):
    """The claim expired and the batch moved on; this attempt's predictions were discarded."""


class PlanLost(ScorebeatError):
    """Another planner has the run, or the run was cancelled; this planner stops."""


class RunOpen(UsageError):
    """The job already has an open run for this model version."""


class RunNotSucceeded(ScorebeatError):
    """The awaited run ended in another state than `succeeded`."""


class RunStillOpen(ScorebeatError, TimeoutError):
    """The awaited run did not end within the timeout; it goes on."""


class KeyBeingBuilt(SourceLocked):
    """Another session builds the key of a generation now; whoever needs it tries again later."""


class StoredTwice(ScorebeatError):
    """A generation has a row more than once: it can never be shown."""


class RepeatedKey(ScorebeatError):
    """The query returned one key twice, or NULL for a key."""


class EscapedError(Exception):
    """A model raised SystemExit, asyncio.CancelledError or another non-Exception, which is the `__cause__`."""


def raised(error: object) -> object:
    """What the model raised: the error itself, or the cause of an EscapedError."""
    return error.__cause__ if isinstance(error, EscapedError) and error.__cause__ is not None else error


def kind(error: BaseException) -> str:
    """The name of the class of what the model raised."""
    return type(raised(error)).__name__


def text(error: object) -> str:
    """The message of an error, or a note that `str()` fails: an error class of the model's own may not be printable."""
    own = raised(error)
    try:
        return str(own)
    except BaseException as failed:  # the error's own code may raise anything
        if is_of_a_signal(failed):
            raise
        return f"(its message cannot be read: str() raised {type(failed).__name__})"


def is_of_a_signal(error: BaseException) -> bool:
    """Whether a signal to this process raised it, and not the code that ran."""
    if isinstance(error, KeyboardInterrupt):  # Ctrl-C raises it in the main thread, unless another handler is set
        is_main = threading.current_thread() is threading.main_thread()
        return is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # the pool's own handler of SIGTERM ends the process by sys.exit(): it is the innermost frame
    module, traceback = "", error.__traceback__
    while traceback is not None:
        module = str(traceback.tb_frame.f_globals.get("__name__", ""))
        traceback = traceback.tb_next
    return isinstance(error, SystemExit) and module.startswith("billiard.")


def one_line(error: object) -> str:
    """The message of an error on one line, for a log or a reason."""
    return shortened(" ".join(text(error).split()))


def shortened(words: str, most: int = LONGEST) -> str:
    """At most so many characters: the beginning, an ellipsis and the end, which often has what to do."""
    if len(words) <= most:
        return words
    end = (most - 1) // 4
    return f"{words[: most - 1 - end]}…{words[len(words) - end :]}"


def require_short(name: str, words: str, most: int) -> None:
    """Raises UsageError for a text that is shown wherever it goes, and would fill it."""
    if len(words) > most:
        raise UsageError(f"{name} has {len(words):,} characters; expected at most {most:,}. Nothing was changed")
    if "\0" in words:
        raise UsageError(f"{name} holds a NUL character, which PostgreSQL refuses. Nothing was changed")


def near(word: str, known: list[str]) -> str:
    """`did_you_mean`; if no name is similar, a sentence with all known names."""
    return did_you_mean(word, known) or (f" Known: {', '.join(sorted(known))}." if known else "")


def did_you_mean(word: str, known: list[str]) -> str:
    """` Did you mean 'iris'?`, with a blank before it; empty if no known name is similar."""
    close = get_close_matches(word, known, n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
