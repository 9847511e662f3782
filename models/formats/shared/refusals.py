"""Messages for a model that cannot be added: one line, with the name of the user's file."""

import errno
import re
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from scorebeat.core.errors import ModelError, ScorebeatError, StoreError, kind, one_line, text
from scorebeat.core.urls import redact
from scorebeat.models.contract import AddOptions

_OPTIONS = {
    "inputs": "--inputs",
    "outputs": "--outputs",
    "classes": "--classes",
    "trusted": "--trust",
    "files": "--file",
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LONGEST = 500
"""Most characters of a library's message."""


@contextmanager
def translate_errors(source: str, draft: Path, copy: str, *, with_versions: bool = False) -> Iterator[None]:
    """Errors about the copy in the folder `draft` name `source` instead; an exception of a library or of a model's
    code becomes a StoreError.

    With `with_versions` they begin with the version that wrote the file, if another one is installed.
    """
    try:
        yield
    except (ModelError, StoreError) as error:
        message = _renamed(str(error), source, draft, copy)
        raise type(error)(_with_versions(message, draft / copy) if with_versions else message) from error
    except ScorebeatError:
        raise
    except OSError as error:
        if error.errno not in _FULL:
            raise StoreError(
                f"{source} was not added: {_renamed(error_summary(error), source, draft, copy)}"
            ) from error
        raise StoreError(
            f"{source} was not added: {draft.parent} cannot be written: {error.strerror}. Nothing of it is left there; "
            "make room, or set SCOREBEAT_ARTIFACTS to a store that has some"
        ) from error
    except Exception as error:  # any library, or the model's own code, may fail in any way
        message = _renamed(error_summary(error), source, draft, copy)
        message = _with_versions(message, draft / copy) if with_versions else message
        raise StoreError(f"{source} was not added: {message}") from error


def error_summary(error: BaseException, lines: int | None = None) -> str:
    """An error's class and text, or the first `lines` of it, on one line."""
    words = one_line("\n".join(redact(text(error)).splitlines()[:lines]))
    shown = words if len(words) <= _LONGEST else f"{words[:_LONGEST]} ..."
    return f"{kind(error)}{': ' * bool(shown)}{shown}"


def _with_versions(message: str, file: Path) -> str:
    from scorebeat.models.formats.shared import written_by  # noqa: PLC0415 -- formats import this module

    writer = written_by.of_file(file)
    return message if str(writer) in message else written_by.prepend_versions(writer, message)


def require_read(add_options: AddOptions, read: Set[str], model_format: str, source: str) -> None:
    """Raises StoreError naming the options in use that do not apply to a model of this format."""
    unused = [option for name, option in _OPTIONS.items() if getattr(add_options, name) and name not in read]
    unused += [f"--allow-code {name}" for name in sorted(add_options.code - {model_format})]
    unused += ["--allow-code " + model_format] * (model_format in add_options.code and "code" not in read)
    if unused:
        raise StoreError(
            f"{source} is a model of the format {model_format}, for which {', '.join(unused)} "
            f"{'does' if len(unused) == 1 else 'do'} nothing: leave {'it' if len(unused) == 1 else 'them'} out. "
            "Nothing was added"
        )


def _renamed(text: str, source: str, draft: Path, copy: str) -> str:
    """The message without the draft's folder, and with the name of the user's file instead of its copy's."""
    for folder in sorted({str(draft), str(draft.absolute()), str(draft.resolve())}, key=len, reverse=True):
        text = text.replace(f"{folder}/", "")
    user_file = Path(source)
    if user_file.is_file() and copy not in user_file.name:
        return re.sub(rf"(?<![\w./-]){re.escape(copy)}(?![\w/])", lambda _: user_file.name, text)
    if user_file.is_dir():  # its copy is called `model`, which is an ordinary word as well
        return re.sub(
            rf"^((?:the MLflow model )?){re.escape(copy)}(?=[ :])", lambda found: f"{found[1]}{user_file.name}", text
        )
    return text
