"""What is said of a model that cannot be added: one line, with the name of the file that the person gave."""

import errno
import re
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from scorebeat.core.errors import ModelError, ScorebeatError, StoreError, kind, one_line, text
from scorebeat.core.urls import redact
from scorebeat.models.contract import Given

_OPTIONS = {
    "inputs": "--inputs",
    "outputs": "--outputs",
    "classes": "--classes",
    "trusted": "--trust",
    "files": "--file",
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LONGEST = 500
"""Characters of what a library says."""


@contextmanager
def told(source: str, draft: Path, copy: str, *, tells_versions: bool = False) -> Iterator[None]:
    """Errors about the copy in the folder `draft` speak of `source`; what a library or a model's code raises
    becomes a StoreError.

    With `tells_versions` they begin with the version that wrote the file where another is installed.
    """
    try:
        yield
    except (ModelError, StoreError) as error:
        words = _renamed(str(error), source, draft, copy)
        raise type(error)(_with_versions(words, draft / copy) if tells_versions else words) from error
    except ScorebeatError:
        raise
    except OSError as error:
        if error.errno not in _FULL:
            raise StoreError(f"{source} was not added: {_renamed(said(error), source, draft, copy)}") from error
        raise StoreError(
            f"{source} was not added: {draft.parent} cannot be written: {error.strerror}. Nothing of it is left there; "
            "make room, or set SCOREBEAT_ARTIFACTS to a store that has some"
        ) from error
    except Exception as error:  # any library, or the model's own code, may fail in any way
        words = _renamed(said(error), source, draft, copy)
        words = _with_versions(words, draft / copy) if tells_versions else words
        raise StoreError(f"{source} was not added: {words}") from error


def said(error: BaseException, lines: int | None = None) -> str:
    """An error's class and text, or the first lines of it, on one line."""
    words = one_line("\n".join(redact(text(error)).splitlines()[:lines]))
    shown = words if len(words) <= _LONGEST else f"{words[:_LONGEST]} ..."
    return f"{kind(error)}{': ' * bool(shown)}{shown}"


def _with_versions(text: str, file: Path) -> str:
    from scorebeat.models.formats.shared import written_by  # noqa: PLC0415 -- formats import this module

    writer = written_by.of_file(file)
    return text if str(writer) in text else written_by.before(writer, text)


def require_read(given: Given, read: Set[str], model_format: str, source: str) -> None:
    """Raises StoreError naming the options that were given and that a model of this format makes no use of."""
    idle = [option for name, option in _OPTIONS.items() if getattr(given, name) and name not in read]
    idle += [f"--allow-code {name}" for name in sorted(given.code - {model_format})]
    idle += ["--allow-code " + model_format] * (model_format in given.code and "code" not in read)
    if idle:
        raise StoreError(
            f"{source} is a model of the format {model_format}, for which {', '.join(idle)} "
            f"{'does' if len(idle) == 1 else 'do'} nothing: leave {'it' if len(idle) == 1 else 'them'} out. "
            "Nothing was added"
        )


def _renamed(text: str, source: str, draft: Path, copy: str) -> str:
    """Without the draft's folder, and with the given file's name for its copy's."""
    for folder in sorted({str(draft), str(draft.absolute()), str(draft.resolve())}, key=len, reverse=True):
        text = text.replace(f"{folder}/", "")
    own = Path(source)
    if own.is_file() and copy not in own.name:
        return re.sub(rf"(?<![\w./-]){re.escape(copy)}(?![\w/])", lambda _: own.name, text)
    if own.is_dir():  # its copy is called `model`, which is a word, too
        return re.sub(rf"^((?:the MLflow model )?){re.escape(copy)}(?=[ :])", lambda m: f"{m[1]}{own.name}", text)
    return text
