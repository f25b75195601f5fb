#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The table at the end of `./exeunt test`: what ran, how many tests, and what was left out. Times are
sums over tests, of which several run at once.

    launcher/summary.py quick|standard|all JUNIT_FILE...

Reads the files that ctest wrote and the reports of Maven's modules. Ends with 1 if a test failed.
"""

import pathlib
import re
import sys
import xml.etree.ElementTree as tree

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Of a native test's name, the first pattern that is found says what it is.
KINDS = (
    (r"^nested\.", "64-bit ARM, under QEMU"),
    (r"^fuzz\.", "random calls and graphs"),
    (r"^pool", "thread pool"),
    (r"\.(address|thread)$", "kernels with sanitizers"),
    (r"\.avx512_emulated(_as_intel)?$", "CPU kernels, AVX-512 and AMX emulated"),
    (r"\.cuda_emulated(_odd)?$|^simt\.", "CUDA kernels, on an emulated device"),
    (r"^cuda\.", "CUDA machine code"),
    (r"^packaging\.", "headers, libraries, packages, launcher"),
)
LEFT_OUT = {
    "quick": ("instruction sets but the weakest and the best, the emulated CUDA device, real models",
              "./exeunt test"),
    "standard": ("the largest shapes, sanitizers, the CUDA compiler and its machine code, emulated "
                 "AVX-512, 64-bit ARM, random ONNX graphs, Spark, Java on every instruction set and "
                 "with the slow compiler, Java's longest tests",
                 "./exeunt test --all"),
}


class Row:
    def __init__(self):
        self.tests = self.failed = self.skipped = 0
        self.seconds = 0.0


def kind_of(name):
    for pattern, kind in KINDS:
        if re.search(pattern, name):
            return kind
    return f"CPU kernels, {name.rpartition('.')[2]}"


def add(row, tests, failed, skipped, seconds):
    row.tests += tests
    row.failed += failed
    row.skipped += skipped
    row.seconds += seconds


def native(path, rows):
    for case in tree.parse(path).getroot().iter("testcase"):
        status = case.get("status")
        add(rows.setdefault(kind_of(case.get("name")), Row()), 1, status == "fail",
            status in ("notrun", "disabled"), float(case.get("time", 0)))


def java(rows):
    for report in sorted(ROOT.glob("**/target/surefire-reports/TEST-*.xml")):
        suite = tree.parse(report).getroot()
        count = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
        module = report.parents[2].relative_to(ROOT)
        add(rows.setdefault(f"Java, {module}", Row()), count["tests"],
            count["failures"] + count["errors"], count["skipped"], float(suite.get("time", 0)))


def main():
    suite, *files = sys.argv[1:]
    rows = {}
    for file in files:
        if pathlib.Path(file).exists():
            native(file, rows)
    java(rows)
    width = max([len(name) for name in rows] + [10])
    print(f"\n{'what ran':{width}}  tests  failed  skipped  all together")
    for name in sorted(rows, key=lambda name: (name.startswith("Java"), name)):
        row = rows[name]
        print(f"{name:{width}}  {row.tests:5}  {row.failed:6}  {row.skipped:7}  "
              f"{int(row.seconds // 60):9}:{int(row.seconds % 60):02}")
    if suite in LEFT_OUT:
        what, command = LEFT_OUT[suite]
        print(f"left out: {what}\n          {command} runs them")
    sys.exit(any(row.failed for row in rows.values()))


if __name__ == "__main__":
    main()
