# SPDX-License-Identifier: Apache-2.0
"""What the Java tests take on another platform, in a folder that can be sent there."""

import dataclasses
import pathlib
import shutil


@dataclasses.dataclass
class Parts:
    platform: str
    jars: list
    classes: pathlib.Path  # of the tests
    libraries: list  # of the cases of ops, and exeunt's own; not for macOS
    golden: pathlib.Path  # recorded vectors
    exceptions: pathlib.Path

    def pack(self, folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "platform").write_text(self.platform)
        for name, files in (("jars", self.jars), ("lib", self.libraries)):
            (folder / name).mkdir()
            for file in files:
                shutil.copy(file, folder / name)
        shutil.copytree(self.classes, folder / "classes")
        shutil.copytree(self.golden, folder / "golden")
        shutil.copy(self.exceptions, folder / "exceptions.tsv")

    @staticmethod
    def unpack(folder):
        return Parts((folder / "platform").read_text(), sorted((folder / "jars").iterdir()),
                     folder / "classes", sorted((folder / "lib").iterdir()), folder / "golden",
                     folder / "exceptions.tsv")
