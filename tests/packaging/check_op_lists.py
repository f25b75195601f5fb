#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every list of ops that is kept by hand names each op of EXN_FOR_EACH_OP.

A new list gets a line in LISTS. What a compiler or another test compares with that one list needs
none: the tables of the backends, the C fuzzer, the budgets of CUDA kernels.

  check_op_lists.py ROOT
"""

import pathlib
import re
import sys

import elf

# How a list calls an op: by its name in the C ABI, its Java class, the public header that declares
# it, or that header's example.
NAME, CLASS, HEADER, EXAMPLE = range(4)

# Where the list is, the part of the file that holds it, what an entry looks like, what that names.
LISTS = [
    ("README.md", r"\n## Ops\n(.*?)\n## ", r"(?<=[|,] )`(\w+)\.h`", HEADER),
    ("native/include/exeunt/exeunt.h", r"(.*)", r"#include <exeunt/(\w+)\.h>", HEADER),
    ("jni-gen/src/**/presets/exeunt.java", r"\binclude = \{(.*?)\}", r'"exeunt/(\w+)\.h"', HEADER),
    ("jni-gen/src/**/presets/exeunt.java", r"\bOPS = \{(.*?)\}", r'"(\w+)"', NAME),
    ("java/src/**/Op.java", r"\bpermits\b(.*?)\{", r"\w+", CLASS),
    ("tests/java/**/Recipes.java", r"(.*)", r"byOp\.put\((\w+)\.class", CLASS),
    ("tests/java/**/ReadOnlyTest.java", r"(.*)", r'"exn_(\w+): ', NAME),
    ("tests/native/sample_calls.cpp", r"(.*)", r"params\(k_(\w+)\)", NAME),
    ("tests/gpu/peers.py", r"\nCOMPOSITIONS = \{(.*?)\}", r"\w+", NAME),
    ("bench/src/**/Problems.java", r"(.*)", r'map\.put\("(\w+)"', NAME),
    ("examples/src/**/OpExamplesTest.java", r"(.*)", r"(\w+)Example::main", EXAMPLE),
    ("ops/java/**/Facade.java", r"(.*)", r'BUILDERS\.put\("(\w+)"', NAME),
]
# What has no composition in peers.py, for the reason that it gives, or makes nothing on a device.
WITHOUT = {"tests/gpu/peers.py": {"exit_rule", "ffn_skip_rule", "hidden_stack", "kv_length",
                                  "layer_schedule"}}


def ops_of(root):
    """Of each op its names, in the order of NAME, CLASS, HEADER and EXAMPLE."""
    seams = [path.read_text() for path in (root / "native/src").rglob("*.h")]
    seam = next(text for text in seams if "#define EXN_FOR_EACH_OP" in text)
    classes = dict(re.findall(r"\bX\((\w+), (\w+)Args\)", seam))
    headers = {op: path.stem for path in (root / "native/include/exeunt").glob("*.h")
               for op in re.findall(r"\} exn_(\w+)_params;", path.read_text())}
    for op, name in classes.items():
        header = headers.get(op, op)
        yield op, name, header, classes.get(header, header.title().replace("_", ""))


def main():
    root = pathlib.Path(sys.argv[1])
    problems = elf.Problems()
    ops = list(ops_of(root))
    problems.expect(ops, "EXN_FOR_EACH_OP is empty")
    for pattern, part, entry, kind in LISTS:
        files = list(root.glob(pattern))
        problems.expect(len(files) == 1, f"{len(files)} files are {pattern}: where is its list?")
        for path in files:
            found = re.search(part, path.read_text(), flags=re.S)
            listed = set(re.findall(entry, found[1])) if found else set()
            wanted = {op[kind] for op in ops if op[NAME] not in WITHOUT.get(pattern, ())}
            for name in sorted(wanted - listed):
                problems.expect(False, f"{path.relative_to(root)} does not list {name}")
    for op in ops:
        problems.expect((root / "ops" / op[NAME] / "cases.tsv").is_file(),
                        f"ops/{op[NAME]} has no cases.tsv")
    print(f"{len(ops)} ops in {len(LISTS)} lists")
    problems.finish()


main()
