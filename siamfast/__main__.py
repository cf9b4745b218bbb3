"""`python -m siamfast`: the command line, for `torchrun -m siamfast train`."""

import sys

from siamfast.cli import main

if __name__ == "__main__":
    sys.exit(main())
