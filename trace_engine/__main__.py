"""``python -m trace_engine``: the same as the ``trace-engine`` command."""

from trace_engine.cli import main

if __name__ == "__main__":
    main()
