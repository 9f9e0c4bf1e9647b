"""`python -m papers_lib`."""

import sys

from papers_lib.cli import main

sys.exit(main())
