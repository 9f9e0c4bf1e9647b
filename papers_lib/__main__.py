"""`python -m papers_lib`."""

import sys

from papers_lib.cli import main, stop_politely

stop_politely()
sys.exit(main())
