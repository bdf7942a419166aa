"""Run the tests below `tests/` and write a JUnit report: python3 tools/run_tests.py REPORT. Ends with 1 when one failed."""

import sys
import time
import unittest
import xml.etree.ElementTree as ET
from pathlib import Path


class Recorder(unittest.TextTestResult):
    """A result that also keeps each test's time and fault."""

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802 (unittest's name)
        self.started_at = time.perf_counter()
        super().startTest(test)

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802 (unittest's name)
        cases.append((test, time.perf_counter() - self.started_at))
        super().stopTest(test)


cases: list[tuple[unittest.TestCase, float]] = []
suite = unittest.defaultTestLoader.discover("tests")
result = unittest.TextTestRunner(sys.stdout, verbosity=2, resultclass=Recorder).run(suite)

faults = {id(test): text for test, text in result.failures + result.errors}
root = ET.Element("testsuite", name="durations", tests=str(result.testsRun), failures=str(len(faults)))
for test, seconds in cases:
    owner, _, name = test.id().rpartition(".")
    case = ET.SubElement(root, "testcase", classname=owner, name=name, time=f"{seconds:.3f}")
    if fault := faults.get(id(test)):
        ET.SubElement(case, "failure").text = fault
report = Path(sys.argv[1])
report.parent.mkdir(parents=True, exist_ok=True)
ET.ElementTree(root).write(report, encoding="utf-8", xml_declaration=True)
sys.exit(0 if result.wasSuccessful() and result.testsRun else 1)
