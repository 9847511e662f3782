"""`python -m scorebeat.worker`: Celery's command line for our application, `worker`, `beat`, `flower`."""

import sys

from scorebeat.core.process.import_path import search_working_folder_last

if __name__ == "__main__":
    search_working_folder_last()
    from celery.__main__ import main

    sys.argv = ["celery", "-A", "scorebeat.worker", *sys.argv[1:]]
    sys.exit(main())
