#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a built library shows to the world: its exports, what it needs, where it looks for it, and
that it was hardened.

  check_library.py LIBRARY --headers DIR      exports must be the functions that the headers declare
  check_library.py LIBRARY --exports NAME...  exports must be exactly these
"""

import argparse
import pathlib
import re

import elf

# libc and the parts of it that older releases keep apart. Everything else must be linked in.
ALLOWED = re.compile(r"^(libc|libm|libdl|libpthread|librt|ld-linux[-\w]*)\.so\.\d+$")


def declared(headers):
    """Names of all functions declared EXN_API in a folder of headers."""
    names = set()
    for header in sorted(pathlib.Path(headers).glob("*.h")):
        text = re.sub(r"/\*.*?\*/", " ", header.read_text(), flags=re.S)
        names |= set(re.findall(r"^EXN_API\b[^;(]*?\b(\w+)\s*\(", text, flags=re.M))
    return names


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    expected = parser.add_mutually_exclusive_group(required=True)
    expected.add_argument("--headers")
    expected.add_argument("--exports", nargs="+")
    arguments = parser.parse_args()

    problems = elf.Problems()
    wanted = set(arguments.exports) if arguments.exports else declared(arguments.headers)
    problems.expect(wanted, f"no EXN_API function found in {arguments.headers}")
    found = elf.exports(arguments.library)
    problems.expect(not wanted - found, f"declared but not exported: {sorted(wanted - found)}")
    problems.expect(not found - wanted, f"exported but not declared: {sorted(found - wanted)}")

    needed = elf.dynamic(arguments.library, "NEEDED")
    for name in needed:
        problems.expect(ALLOWED.match(name), f"needs {name}, which is not part of libc")
    if arguments.headers:  # programs link against it
        core = (pathlib.Path(arguments.headers) / "core.h").read_text()
        abi = re.search(r"#define EXN_ABI_VERSION (\d+)", core)[1]
        names = elf.dynamic(arguments.library, "SONAME")
        problems.expect(names == [f"libexeunt.so.{abi}"],
                        f"is called {names}, not by its ABI, libexeunt.so.{abi}")
    for tag in ("RUNPATH", "RPATH"):
        problems.expect(not elf.dynamic(arguments.library, tag), f"carries a {tag}")

    for weakness in elf.weaknesses(arguments.library):
        problems.expect(False, weakness)

    ceiling = elf.glibc_ceiling(arguments.library)
    problems.expect(not elf.too_new(arguments.library), "needs a newer glibc than 2.28")
    print(f"{len(found)} exports; needs {', '.join(needed) or 'nothing'} "
          f"and glibc {ceiling[0]}.{ceiling[1]} or newer")
    problems.finish()


if __name__ == "__main__":
    main()
