#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A section of a page in docs in a Maven project of its own, as a user makes it: the dependencies
that it prints and its program, which must print what the section says.

  project_test.py ROOT FOLDER REPOSITORY MAVEN JDK PAGE SECTION [FILE...]

SECTION is a heading of PAGE; dependencies that its first section prints count, too. Nothing is
installed: the project sees the local REPOSITORY of this build through links, and beside it this
build's jars and poms, as 'mvn install' would put them there. FOLDER is emptied.
Each FILE (NAME=PATH, or NAME=JAR!ENTRY) lies in the working folder. Options of the JVM are the
section's, too: an indented line that begins with '--'.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import local_maven

PLUGINS = ("maven-resources-plugin", "maven-compiler-plugin", "exec-maven-plugin")


def sections(page, heading):
    """The section, and the page's first, unless it is that."""
    pieces = re.split(r"^(?=## |# )", page, flags=re.M)[1:]
    for i, piece in enumerate(pieces):
        if re.match(rf"#+ {re.escape(heading)}\n", piece):
            return piece, pieces[0] if i else ""
    raise SystemExit(f"no section '{heading}'")


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.S | re.M)


def link_repository(root, outer, inner):
    """The user's local repository, but for org.exeunt, which is this build's."""
    (inner / "org/exeunt").mkdir(parents=True)
    for folder, into in ((outer, inner), (outer / "org", inner / "org")):
        for entry in folder.iterdir():
            if not (into / entry.name).exists():
                (into / entry.name).symlink_to(entry)
    local_maven.link_built(root, inner)


def write_project(folder, root, dependencies, program, release):
    name = re.search(r"public class (\w+)", program)[1]
    source = folder / "src/main/java" / f"{name}.java"
    source.parent.mkdir(parents=True)
    source.write_text(program)
    (folder / "pom.xml").write_text(f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>user</groupId><artifactId>project</artifactId><version>1</version>
  <properties>
    <maven.compiler.release>{release}</maven.compiler.release>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
  <dependencies>
{dependencies}  </dependencies>
  <build><pluginManagement><plugins>{local_maven.plugins(root, PLUGINS)}</plugins></pluginManagement></build>
</project>
""")
    return name


def lay(folder, name, source):
    jar, _, entry = source.partition("!")
    if entry:
        with zipfile.ZipFile(jar) as archive, archive.open(entry) as data:
            (folder / name).write_bytes(data.read())
    else:
        (folder / name).symlink_to(pathlib.Path(source).resolve())


def main():
    root, folder, repository, maven, jdk = map(pathlib.Path, sys.argv[1:6])
    page, heading, *files = sys.argv[6:]
    section, before = sections((root / page).read_text(), heading)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    link_repository(root, repository, folder / "repository")
    program = next(block for block in blocks(section, "java") if "public class" in block)
    expected = re.findall(r"`([^`]*)`", re.search(
        re.escape(program) + r"```\n\nIt prints (.*?)\.(?:\s|$)", section, flags=re.S)[1])
    dependencies = "".join(blocks(before + section, "xml"))
    release = 21 if "jlama" in dependencies else 17
    name = write_project(folder, root, dependencies, program, release)
    for file in files:
        lay(folder, *file.split("=", 1))
    options = " ".join(re.findall(r"^    (--.*)$", section, flags=re.M))
    done = subprocess.run(
        [maven, "--batch-mode", "--quiet", f"-Dmaven.repo.local={folder / 'repository'}",
         "-Djavacpp.platform=linux-x86_64", "compile", "exec:exec", f"-Dexec.executable={jdk / 'bin/java'}",
         f"-Dexec.args={options} -cp %classpath {name}"],
        cwd=folder, env={**os.environ, "JAVA_HOME": str(jdk)}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the project of '{heading}' failed:\n{done.stdout}")
    printed = [line for line in done.stdout.splitlines() if line in expected]
    print(f"{heading}: {' '.join(printed)}")
    if printed != expected:
        raise SystemExit(f"{page} promises {expected} in '{heading}', printed was\n{done.stdout}")


main()
