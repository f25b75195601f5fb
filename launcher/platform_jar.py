#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Packs the libraries of a platform as the loader looks for them, each with its digest:
platform_jar.py PLATFORM JAR LIBRARY... The same libraries give the same bytes."""

import hashlib
import pathlib
import sys
import zipfile
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[1]


def main():
    platform, jar, *libraries = sys.argv[1:]
    module = f"org.exeunt.jni.natives.{platform.replace('-', '.')}"
    entries = {
        "META-INF/MANIFEST.MF": f"Manifest-Version: 1.0\r\nAutomatic-Module-Name: {module}\r\n\r\n",
        "META-INF/LICENSE": (ROOT / "LICENSE").read_bytes(),
        "META-INF/NOTICE": (ROOT / "NOTICE").read_bytes(),
    }
    for library in map(pathlib.Path, libraries):
        content = library.read_bytes()
        name = f"org/exeunt/{platform}/{library.name}"
        entries[name] = content
        digest = hashlib.sha256(content).hexdigest()
        entries[f"{name}.digest"] = f"{digest} {zlib.crc32(content):08x} {len(content)}\n"
    part = pathlib.Path(f"{jar}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 9)
    part.replace(jar)


main()
