"""``python -m taskfleet.desipipe``, the same as ``taskfleet``."""

import sys

from taskfleet.desipipe.console import main

if __name__ == "__main__":
    sys.exit(main())
