"""Print a reference of a package's public names in Markdown: python3 tools/reference.py PACKAGE."""

import importlib
import inspect
import sys

package = importlib.import_module(sys.argv[1])
print(f"# {package.__name__}\n\n{inspect.getdoc(package)}")
for name in package.__all__:
    thing = getattr(package, name)
    signature = str(inspect.signature(thing)) if inspect.isfunction(thing) else ""
    print(f"\n## {name}{signature}\n\n{inspect.getdoc(thing)}")
