"""``python -m dabench``."""

import sys

from dabench.cli import main

sys.exit(main())
