"""``python -m fcnlib`` is the command ``fcn``."""

import sys

from fcnlib.cli import main

sys.exit(main())
