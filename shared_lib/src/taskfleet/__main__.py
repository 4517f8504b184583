"""``python -m taskfleet``."""

import sys

from taskfleet.cli import main

if __name__ == "__main__":
    sys.exit(main())
