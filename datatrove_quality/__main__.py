"""`python -m datatrove_quality` does what the command `datatrove-quality` does."""

import sys

from datatrove_quality.cli.main import main


if __name__ == "__main__":
    sys.exit(main())
