#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The folders of native and cuda: none includes what it may not, no includes form a circle, and
what the C ABI consists of is defined in one folder.

  check_arrows.py ROOT
"""

import graphlib
import pathlib
import re
import sys

import elf

PUBLIC = "native/include/exeunt"
BASE = "native/src/base"
ARGS = "native/src/base/args"
PLATFORM = "native/src/base/platform"
ABI = "native/src/abi"
CPU = "native/src/cpu"
DEVICE = "cuda/include/exeunt/cuda"
# Beside its own files a folder may include what is named here: folders, or single files of them.
FOLDERS = {
    PUBLIC: set(),
    BASE: {PUBLIC},
    ARGS: {PUBLIC, BASE},
    PLATFORM: set(),
    f"{CPU}/simd": {f"{CPU}/tuning.h"},
    CPU: {PUBLIC, BASE, ARGS, PLATFORM},
    f"{CPU}/kernels": {PUBLIC, BASE, ARGS, CPU, f"{CPU}/simd"},
    ABI: {PUBLIC, BASE, ARGS, PLATFORM, f"{CPU}/backend.h"},
    DEVICE: set(),
    "cuda/src": {PUBLIC, BASE, ARGS, DEVICE},
}
FLOORS = ("native/include", "native/src", "cuda/include", "cuda/src")
# The one function that the CUDA library shows, to the library that opens it.
QUERY = 'extern "C" EXN_API exn_status exn_cuda_backend_query('


def text_of(path):
    """A source without its comments."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", " ", path.read_text(), flags=re.S)


def included(root, path, text, problems):
    """Where the files lie that a source includes and that are the tree's."""
    for quote, name in re.findall(r'^\s*#\s*include\s*(["<])([^">]+)', text, flags=re.M):
        places = [root / floor / name for floor in FLOORS]
        if quote == '"':
            places.insert(0, path.parent / name)
        found = next((place for place in places if place.is_file()), None)
        if found:
            yield found.resolve().relative_to(root)
        else:  # but for the emulator's headers, all that is quoted is the tree's
            problems.expect(quote == "<" or name.startswith("simt/"),
                            f"{path.relative_to(root)} includes {name}, which is nowhere")


def abi_in(text):
    """What makes or names a function of the C ABI, at the left margin of a source."""
    return re.findall(r'extern\s+"C"|EXN_API|^(?:\w[^\n(){};<]*\b)?exn_\w+(?=\()', text, flags=re.M)


def circle(arrows):
    """Names each of which includes the next, and the last the first; or none."""
    try:
        graphlib.TopologicalSorter(arrows).prepare()
    except graphlib.CycleError as error:
        return error.args[1][::-1]
    return []


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    problems = elf.Problems()
    files, folders = {}, {folder: set() for folder in FOLDERS}
    for path in sorted(path for floor in FLOORS for path in (root / floor).rglob("*.*")):
        name, folder = str(path.relative_to(root)), str(path.parent.relative_to(root))
        if folder not in FOLDERS:
            problems.expect(False, f"{name} is in no folder")
            continue
        text = text_of(path)
        files[name] = []
        for target in included(root, path, text, problems):
            place = str(target.parent)
            files[name].append(str(target))
            if place != folder:
                folders[folder].add(place)
                problems.expect({place, str(target)} & FOLDERS[folder],
                                f"{name} includes {target}, which {folder} may not")
        if folder not in (PUBLIC, ABI, PLATFORM):  # the last has functions of glibc
            if name == "cuda/src/backend.cu":
                text = text.replace(QUERY, "")
            problems.expect(not abi_in(text), f"{name} has {abi_in(text)}, which belong into {ABI}")
    problems.expect(files, f"no sources under {root}")
    for arrows in (files, folders):
        problems.expect(not circle(arrows), f"a circle of includes: {' -> '.join(circle(arrows))}")
    print(f"{len(files)} files in {len(folders)} folders")
    problems.finish()


main()
