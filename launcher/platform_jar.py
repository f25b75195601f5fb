#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Packs the libraries of a platform as the loader looks for them, each with its digest, as a module:
platform_jar.py PLATFORM JAR MODULE_PATH LIBRARY... The same libraries give the same bytes."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[1]


def lay_out(folder, platform, module_path, libraries):
    """The files of the jar."""
    manifest = folder / "META-INF/MANIFEST.MF"
    manifest.parent.mkdir()
    manifest.write_text("Manifest-Version: 1.0\r\n\r\n", newline="")
    for name in ("LICENSE", "NOTICE"):
        shutil.copyfile(ROOT / name, folder / "META-INF" / name)
    place = folder / "org/exeunt" / platform
    place.mkdir(parents=True)
    for library in libraries:
        content = library.read_bytes()
        (place / library.name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        (place / f"{library.name}.digest").write_text(
            f"{digest} {zlib.crc32(content):08x} {len(content)}\n")
    java = pathlib.Path(os.environ["JAVA_HOME"], "bin/java") if "JAVA_HOME" in os.environ else "java"
    subprocess.run([java, "-XX:TieredStopAtLevel=1", ROOT / "jni-gen/src/build/NativesModule.java",
                    platform, folder, module_path], check=True)


def pack(folder, jar):
    """The manifest is the first entry of a jar."""
    names = sorted((file.relative_to(folder).as_posix() for file in folder.rglob("*")
                    if file.is_file()), key=lambda name: (name != "META-INF/MANIFEST.MF", name))
    part = pathlib.Path(f"{jar}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            file.writestr(zipfile.ZipInfo(name), (folder / name).read_bytes(),
                          zipfile.ZIP_DEFLATED, 9)
    part.replace(jar)


def main():
    platform, jar, module_path, *libraries = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        lay_out(pathlib.Path(folder), platform, module_path, map(pathlib.Path, libraries))
        pack(pathlib.Path(folder), jar)


main()
