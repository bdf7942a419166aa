"""`python -m stretto.doors.cli`: how the command line starts itself in the background, whatever PATH says."""

import sys

from stretto.doors.cli.main import main

sys.exit(main())
