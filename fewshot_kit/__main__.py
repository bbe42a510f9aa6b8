"""Runs the command line for `python -m fewshot_kit`."""

import sys

from .cli.parser import main

sys.exit(main())
