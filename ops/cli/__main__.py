"""`python -m ops.cli`: the command line where no script is installed."""

from scorebeat.ops.cli import main

if __name__ == "__main__":
    main()
