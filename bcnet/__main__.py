"""`python -m bcnet` is `bcnet`."""

import sys

from bcnet.cli import main

if __name__ == "__main__":  # a worker started by spawn imports this file and must stop here
    sys.exit(main())
