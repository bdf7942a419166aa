"""Make one file that Python runs out of the package, the same bytes each time: python3 tools/package.py FILE."""

import io
import sys
import zipfile
from pathlib import Path

target = Path(sys.argv[1])
target.parent.mkdir(parents=True, exist_ok=True)
buffer = io.BytesIO()
with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr(
        zipfile.ZipInfo("__main__.py"), "import runpy\nrunpy.run_module('durations', run_name='__main__')\n"
    )
    for source in sorted(Path("durations").glob("*.py")):
        archive.writestr(zipfile.ZipInfo(str(source)), source.read_bytes())
target.write_bytes(b"#!/usr/bin/env python3\n" + buffer.getvalue())
print(f"{target}: {target.stat().st_size} bytes")
