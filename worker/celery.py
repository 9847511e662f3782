"""Where `celery -A scorebeat.worker` finds the application; the one module that works when it is imported.

`celery -A worker` finds it here, too, in a checkout.
"""

import sys

from scorebeat.core.process.import_path import search_working_folder_last
from scorebeat.worker.lifecycle.devices.pin import one_math_thread

search_working_folder_last()  # before anything imports a library
one_math_thread()  # before anything imports a numeric library

from scorebeat.core.errors import UsageError  # noqa: E402 -- after the threads are set
from scorebeat.worker.app import build_app  # noqa: E402

try:
    app = build_app()
except UsageError as error:
    sys.stderr.write(f"error: {error}\n")
    raise SystemExit(error.exit_code) from None  # Celery shows any other exception with the traceback of an import
