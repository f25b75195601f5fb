#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Packs the recorded vectors of a folder into this one: pack.py FOLDER [ARCHIVE...]

An archive is made for each method of FOLDER/official and one, smollm2, of FOLDER/model; the same
files give the same bytes. SHA256SUMS is written anew.
"""
import hashlib
import io
import lzma
import pathlib
import sys
import tarfile

HERE = pathlib.Path(__file__).resolve().parent
# What suits numbers of four and eight bytes.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 1, "lp": 3, "pb": 3}]


def packed(root, files):
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for file in sorted(files):
            entry = tarfile.TarInfo(file.relative_to(root).as_posix())
            entry.size = file.stat().st_size
            entry.mode = 0o644
            with file.open("rb") as content:
                archive.addfile(entry, content)
    return lzma.compress(tar.getvalue(), filters=FILTERS)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    root, wanted = pathlib.Path(sys.argv[1]), sys.argv[2:]
    archives = {file.stem: [file, file.with_suffix(".json")]
                for file in (root / "official").glob("*.safetensors")}
    if (root / "model").is_dir():
        archives["smollm2"] = [file for file in (root / "model").iterdir()]
    unknown = set(wanted) - set(archives)
    if unknown:
        sys.exit(f"{root} has nothing for {', '.join(sorted(unknown))}")
    for name in wanted or archives:
        (HERE / f"{name}.tar.xz").write_bytes(packed(root, archives[name]))
    made = sorted(HERE.glob("*.tar.xz"))
    (HERE / "SHA256SUMS").write_text("".join(
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in made))
    print(f"{sum(file.stat().st_size for file in made) / 1e6:.2f} MB in {len(made)} archives")


if __name__ == "__main__":
    main()
