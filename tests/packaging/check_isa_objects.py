#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""No object built for one instruction set may define a symbol that another object could pick up.

The linker keeps one copy of an inline function or template that several objects define. If that
copy came from the AVX-512 object, a machine without AVX-512 would die in code that looks portable.
So every weak or unique symbol of a kernel object must carry the namespace of its instruction set,
and so must every strong one.

  check_isa_objects.py ISA OBJECT...
"""

import subprocess
import sys

import elf


def main():
    isa, objects = sys.argv[1], sys.argv[2:]
    if not objects:
        raise SystemExit("no objects given")
    problems = elf.Problems()
    # Itanium mangling spells a namespace as its length and its name.
    mark = f"{len(isa)}{isa}"
    count = 0
    for path in objects:
        symbols = elf.run(elf.NM, "--defined-only", "--extern-only", "--format=posix", path)
        for line in symbols.splitlines():
            name, kind = line.split()[:2]
            count += 1
            if mark not in name:
                filtered = subprocess.run(["c++filt", name], capture_output=True, text=True,
                                          check=False)
                problems.expect(False, f"{path.rsplit('/', 1)[-1]} defines "
                                f"'{filtered.stdout.strip() or name}' ({kind}) "
                                f"outside namespace {isa}")
    problems.expect(count, f"the objects of {isa} define nothing")
    print(f"{isa}: {len(objects)} objects, {count} symbols")
    problems.finish()


main()
