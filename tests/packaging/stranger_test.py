#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A program of somebody who has a staged release and nothing else of exeunt: a new Maven project
with one dependency, exeunt-platform, runs README's example and prints what that promises.

  stranger_test.py ROOT STAGE VERSION
  stranger_test.py ROOT                  the jars and POMs that were built here are the release

The project lies outside the tree, and its local repository is its own, and empty at first. What is
not exeunt's comes from this user's local repository as from a remote one, so that no network is
needed. Where not all platforms were staged, it narrows them as its user would.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import local_maven

MOST = 60  # seconds, from an empty local repository to the program's end


def readme(root):
    text = (root / "README.md").read_text()
    block = re.search(r"^```java\n(.*?)^```\n\nIt prints (.*?)\.(?:\s+[A-Z])", text, flags=re.S | re.M)
    return block[1], re.findall(r"`([^`]*)`", block[2])


def write_project(folder, root, stage, version, program):
    source = folder / "src/main/java/Snippet.java"
    source.parent.mkdir(parents=True)
    source.write_text(program)
    plugins = local_maven.plugins(
        root, ("maven-resources-plugin", "maven-compiler-plugin", "exec-maven-plugin"))
    (folder / "pom.xml").write_text(f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>stranger</groupId><artifactId>program</artifactId><version>1</version>
  <properties>
    <maven.compiler.release>17</maven.compiler.release>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
  <repositories><repository><id>staged</id><url>{stage.as_uri()}</url></repository></repositories>
  <dependencies>
    <dependency>
      <groupId>org.exeunt</groupId>
      <artifactId>exeunt-platform</artifactId>
      <version>{version}</version>
    </dependency>
  </dependencies>
  <build><pluginManagement><plugins>{plugins}</plugins></pluginManagement></build>
</project>
""")


def built(root, stage):
    """What was built here, as a repository; its version."""
    local_maven.link_built(root, stage)
    return next((stage / "org/exeunt/exeunt-platform").iterdir()).name


def write_settings(path):
    """What is not ours comes from what this user's Maven has fetched, or from afar."""
    fetched = pathlib.Path.home() / ".m2/repository"
    mirror = (f"<mirror><id>fetched</id><url>{fetched.as_uri()}</url><mirrorOf>central</mirrorOf></mirror>"
              if fetched.is_dir() else "")
    path.write_text(f"<settings><mirrors>{mirror}</mirrors></settings>")


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    if len(sys.argv) == 4:
        run(root, pathlib.Path(sys.argv[2]).resolve(), sys.argv[3])
    else:
        with tempfile.TemporaryDirectory(prefix="built") as folder:
            run(root, pathlib.Path(folder), built(root, pathlib.Path(folder)))


def run(root, stage, version):
    program, expected = readme(root)
    platforms = {path.stem.split(f"-{version}-")[1] for path in
                 (stage / "org/exeunt/exeunt-jni" / version).glob("*.jar") if version + "-" in path.stem}
    wanted = set(re.findall(r"<javacpp\.platform\.([^>/]*)>", (root / "platform/pom.xml").read_text()))
    narrow = [] if wanted <= platforms else ["-Djavacpp.platform=linux-x86_64"]
    with tempfile.TemporaryDirectory(prefix="stranger") as scratch:
        folder = pathlib.Path(scratch)
        write_project(folder / "program", root, stage, version, program)
        write_settings(folder / "settings.xml")
        # Its unpacked libraries are its own, too.
        command = ["mvn", "--batch-mode", "--quiet", "--settings", folder / "settings.xml",
                   f"-Dmaven.repo.local={folder / 'repository'}", *narrow, "compile", "exec:exec",
                   "-Dexec.executable=java", "-Dexec.args=-Dorg.bytedeco.javacpp.cachedir="
                   f"{folder / 'cache'} -cp %classpath Snippet"]
        begin = time.monotonic()
        done = subprocess.run(command, cwd=folder / "program", stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                              env={**os.environ, "MAVEN_OPTS": "-XX:TieredStopAtLevel=1"})
        took = time.monotonic() - begin
        fetched = {path.name for path in (folder / "repository/org/exeunt").glob("*")}
    lines = re.sub(r"\x1b\[[\d;]*m", "", done.stdout).splitlines()  # Maven's colours
    printed = [line for line in lines if line in expected]
    if done.returncode != 0 or printed != expected:
        raise SystemExit(f"README promises {expected}, printed was\n{done.stdout}")
    if not {"exeunt", "exeunt-jni", "exeunt-platform"} <= fetched:
        raise SystemExit(f"of the stage there came only {sorted(fetched)}")
    if took > MOST:
        raise SystemExit(f"it took {took:.0f} s, more than {MOST}")
    print(f"one dependency{' and ' + narrow[0] if narrow else ''}: {' '.join(printed)}, "
          f"{took:.0f} s after an empty local repository")


main()
