#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether two builds of one commit, in folders of different names, are the same bytes.

  compare_builds.py FOLDER FOLDER     two trees with their jars in */target, two staged releases, or two
                                      folders with jars of launcher/platform.sh

Of jars that differ it names the entries that do. Signatures, and checksums of the same files, are
left out.
"""

import pathlib
import sys
import zipfile


def built(folder):
    folder = pathlib.Path(folder)
    staged = (folder / "org/exeunt").is_dir()
    paths = [path for kind in ("jar", "pom", "json") for path in folder.rglob(f"org/**/*.{kind}")
             ] if staged else [*folder.glob("*/target/*.jar"), *folder.glob("*.jar")]
    return {str(path.relative_to(folder)): path for path in paths}


def entries(path):
    with zipfile.ZipFile(path) as jar:
        return {entry.filename: (jar.read(entry), entry.date_time, entry.external_attr)
                for entry in jar.infolist()}


def differences(one, other):
    if one.read_bytes() == other.read_bytes():
        return []
    if one.suffix != ".jar":
        return ["its text"]
    a, b = entries(one), entries(other)
    names = [name for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]
    return names or ["the order of its entries"]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    one, other = map(built, sys.argv[1:])
    if not one:
        sys.exit(f"{sys.argv[1]} holds no build")
    wrong = [f"{name} is in one of them alone" for name in sorted(one.keys() ^ other.keys())]
    for name in sorted(one.keys() & other.keys()):
        found = differences(one[name], other[name])
        if found:
            wrong.append(f"{name} differs: {', '.join(found[:5])}"
                         + (f" and {len(found) - 5} more" if len(found) > 5 else ""))
    print("\n".join(wrong) or f"{len(one)} files are the same bytes")
    sys.exit(bool(wrong))


main()
