"""`python -m papers_lib`."""

import sys

from papers_lib.cli import main
from papers_lib.entry import stop_politely

stop_politely()
sys.exit(main())
