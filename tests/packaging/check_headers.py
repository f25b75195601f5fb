#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every public header compiles alone: the C ABI as C11 and C++17, the device headers with nvcc. A
device header that a source includes before all else has compiled alone with the library.

  check_headers.py c CC CXX INCLUDE_DIR
  check_headers.py cuda NVCC INCLUDE_DIR SOURCE_DIR [-I DIR]...
"""

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import elf

STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]


def compile_alone(header, root, suffix, command):
    """Compiles a file that includes the header alone, twice, so that its guard is tried too."""
    name = header.relative_to(root)
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "alone" + suffix)
        source.write_text(f"#include <{name}>\n#include <{name}>\n")
        done = subprocess.run([*command, f"-I{root}", str(source)], capture_output=True, text=True,
                              check=False, cwd=folder)
    if done.returncode == 0:
        return ""
    return f"{name} does not compile alone ({command[0]}):\n{done.stdout}{done.stderr}"


def first_includes(folder):
    """What the sources in a folder include first."""
    texts = [source.read_text() for source in sorted(folder.glob("*.cu"))]
    return {found[1] for text in texts
            if (found := re.search(r"^#\s*include\s*[<\"](.*)[>\"]", text, re.MULTILINE))}


def main():
    mode, *rest = sys.argv[1:]
    jobs, problems = [], elf.Problems()
    if mode == "c":
        cc, cxx, root = rest[0], rest[1], pathlib.Path(rest[2])
        for header in sorted(root.rglob("*.h")):
            jobs.append((header, root, ".c", [cc, "-std=c11", *STRICT]))
            jobs.append((header, root, ".cpp", [cxx, "-std=c++17", *STRICT]))
    else:
        nvcc, root, sources, more = rest[0], pathlib.Path(rest[1]), pathlib.Path(rest[2]), rest[3:]
        compiled = first_includes(sources)
        problems.expect(compiled, f"no sources in {sources}")
        for header in sorted(root.rglob("*.cuh")):
            # The guard is tried by what compiles it twice; who includes others' headers needs it.
            guarded = "#pragma once" in header.read_text()
            problems.expect(guarded, f"{header.relative_to(root)} has no #pragma once")
            if guarded and str(header.relative_to(root)) in compiled:
                continue
            jobs.append((header, root, ".cu", [nvcc, "-std=c++17", "-arch=compute_80", "-ptx",
                                               "-o", "alone.ptx", *more]))

    problems.expect(jobs, f"no headers under {root}")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for failure in pool.map(lambda job: compile_alone(*job), jobs):
            problems.expect(not failure, failure)
    print(f"{len(jobs)} compilations")
    problems.finish()


main()
