#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every list of ops that is kept by hand names each op of EXN_FOR_EACH_OP.

A new list gets a line in LISTS. What a compiler or another test compares with that one list needs
none: the tables of the backends, the C fuzzer, the budgets of CUDA kernels. A composition in
tests/gpu/compositions.py is a choice.

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
    ("docs/ops.md", r"# Ops\n(.*?)\nWeights of products", r"(?<=[|,] )`(\w+)\.h`", HEADER),
]


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
            wanted = {op[kind] for op in ops}
            for name in sorted(wanted - listed):
                problems.expect(False, f"{path.relative_to(root)} does not list {name}")
    for name, _, _, example in ops:
        for file in (f"ops/{name}/cases.tsv",
                     f"examples/src/main/java/org/exeunt/examples/ops/{example}Example.java"):
            problems.expect((root / file).is_file(), f"there is no {file}")
    print(f"{len(ops)} ops in {len(LISTS)} lists")
    problems.finish()


if __name__ == "__main__":
    main()
