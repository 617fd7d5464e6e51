"""``python -m dabench``."""

import sys

from dabench.cli.main import main

sys.exit(main())
