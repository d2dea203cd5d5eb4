"""python -m examples.host_monitor"""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while the rest is imported: an end without a traceback

from examples.host_monitor.launcher import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main())
