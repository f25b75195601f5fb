#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The archives of tests/golden: all are listed, small, read by tests, and refused when damaged.

  check_golden.py ROOT CMAKE
"""

import hashlib
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

import elf

MOST_BYTES = 8_000_000
READERS = ("tests/native/*.cpp", "tests/java/**/*.java", "ops/*/test.cpp",
           "engine/src/test/**/*.java")
SCRIPT = """cmake_minimum_required(VERSION 3.22)
project(golden NONE)
include(cmake/golden.cmake)
exn_unpack_golden(${CMAKE_BINARY_DIR}/golden)
"""


def configured(cmake, source, build):
    """Exit status and output of a project that unpacks the archives."""
    done = subprocess.run([cmake, "-S", source, "-B", build], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    return done.returncode, " ".join(done.stdout.split())


def main():
    root, cmake = pathlib.Path(sys.argv[1]), sys.argv[2]
    problems = elf.Problems()
    folder = root / "tests/golden"
    archives = sorted(folder.glob("*.tar.xz"))
    sums = dict(line.split("  ")[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    problems.expect(set(sums) == {file.name for file in archives},
                    "SHA256SUMS does not name the archives of tests/golden")
    size = sum(file.stat().st_size for file in archives)
    problems.expect(size <= MOST_BYTES, f"the archives take {size} bytes, more than {MOST_BYTES}")
    readers = " ".join(file.read_text() for pattern in READERS for file in root.glob(pattern))
    for file in archives:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        problems.expect(sums.get(file.name) == found, f"{file.name} is not what SHA256SUMS says")
        with tarfile.open(file) as tar:
            for name in tar.getnames():
                stem = pathlib.PurePath(name).stem
                problems.expect(re.search(rf'["/]{stem}[".]', readers), f"no test reads {name}")

    with tempfile.TemporaryDirectory(prefix="golden ü ") as scratch:
        tree, build = pathlib.Path(scratch) / "a tree", pathlib.Path(scratch) / "build"
        (tree / "tests").mkdir(parents=True)
        shutil.copytree(folder, tree / "tests/golden")
        shutil.copytree(root / "cmake", tree / "cmake")
        (tree / "CMakeLists.txt").write_text(SCRIPT)
        status, text = configured(cmake, tree, build)
        problems.expect(status == 0, f"a sound tree is refused: {text}")
        one = tree / "tests/golden" / archives[0].name
        unpacked = [file for file in build.glob("golden/*/*") if file.is_file()]
        problems.expect(len(unpacked) > len(archives), f"only {len(unpacked)} files are unpacked")
        one.write_bytes(one.read_bytes()[:-100])
        status, text = configured(cmake, tree, build)
        problems.expect(status != 0 and f"{one.name} is damaged" in text,
                        f"a damaged archive is told as: {text}")
        one.unlink()
        status, text = configured(cmake, tree, build)
        problems.expect(status != 0 and f"{one.name} is missing" in text,
                        f"a missing archive is told as: {text}")
    print(f"{len(archives)} archives, {size / 1e6:.2f} MB")
    problems.finish()


main()
