"""Where `celery -A worker` finds the application; the one module that works when it is imported."""

from worker.pin import one_math_thread

one_math_thread()  # before anything imports a numeric library

from worker.app import build_app  # noqa: E402 -- after the threads are set

app = build_app()
