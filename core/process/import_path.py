"""Where Python looks for modules: what is installed first, the working folder last."""

import sys
from pathlib import Path


def search_working_folder_last() -> None:
    """Find modules of the working folder, such as a model's own code, and never import one instead of a library.

    `python -m` and Celery put the folder first, where the user's own `redis.py` or `celery.py` would be imported
    instead of the library. The standard library and everything that is installed come first now.
    """
    here = str(Path.cwd())
    sys.path[:] = [folder for folder in sys.path if folder not in ("", here)] + [here]
