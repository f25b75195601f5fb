#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What Maven Central asks of a release, and users rely on, of the repository that `./exeunt release`
has staged:

  check_release.py FOLDER [--partial]

Reads the files as they lie there, and knows nothing of the build: which artifacts and classifiers
there must be, the bill of materials says; key.asc is the key that they are signed with. With
--partial an artifact or a platform may be missing, and is named.
"""

import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
import zipfile

GROUP = "org.exeunt"
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-(?!SNAPSHOT)[0-9A-Za-z-]+"
                     r"(\.[0-9A-Za-z-]+)*)?")  # semver.org, without build numbers
CHECKSUMS = ("md5", "sha1", "sha256", "sha512")
FACTS = ("name", "description", "url", "licenses/license/name", "licenses/license/url",
         "developers/developer/name", "developers/developer/url", "scm/connection",
         "scm/developerConnection", "scm/url")
BESIDE = {"key.asc"}  # and the bundle
PLATFORM = "javacpp.platform."
# What shows that a library has a part of another linked in.
SIGNS = {"libstdc++": b"terminate called", "libgcc": b"GCC: (", "libc++abi": b"libc++abi: ",
         "libunwind": b"libunwind: ", "mingw-w64": b"Mingw-w64 runtime failure", "CUDA Runtime": b"insufficient for CUDA runtime"}


class Pom:
    """What a POM says by itself, without a parent."""

    def __init__(self, path):
        self.path = path
        self.root = xml.parse(path).getroot()
        for element in self.root.iter():
            element.tag = element.tag.rpartition("}")[2]
        self.properties = {p.tag: p.text or "" for p in self.root.iterfind("properties/*")}
        self.properties["project.version"] = self.text("version")

    def text(self, where, start=None):
        found = (self.root if start is None else start).findtext(where)
        return re.sub(r"\$\{([^}]*)\}", lambda m: self.properties.get(m[1], m[0]), found or "").strip()

    def packaging(self):
        return self.text("packaging") or "jar"

    def dependencies(self, where="dependencies"):
        """Group, artifact, version, classifier, scope."""
        for dependency in self.root.iterfind(f"{where}/dependency"):
            yield tuple(self.text(what, dependency)
                        for what in ("groupId", "artifactId", "version", "classifier", "scope"))


class Release:
    def __init__(self, folder):
        self.folder = folder
        self.home = folder / GROUP.replace(".", "/")
        self.problems, self.missing, self.signed = [], {}, 0
        self.poms = {path.parent.parent.name: Pom(path) for path in sorted(self.home.glob("*/*/*.pom"))}

    def expect(self, condition, sentence):
        if not condition:
            self.problems.append(sentence)
        return condition

    def name(self, path):
        return path.relative_to(self.folder)

    def file(self, artifact, version, classifier, ending="jar"):
        tail = f"-{classifier}" if classifier else ""
        return self.home / artifact / version / f"{artifact}-{version}{tail}.{ending}"

    def check(self):
        self.expect(self.poms, f"{self.folder} holds no artifact of {GROUP}")
        for artifact, pom in self.poms.items():
            self.check_pom(artifact, pom)
            if pom.packaging() == "jar":
                self.check_jars(artifact, pom)
        versions = {pom.text("version") for pom in self.poms.values()}
        self.expect(len(versions) < 2, f"there are several versions: {', '.join(sorted(versions))}")
        self.check_bom()
        self.check_platform()
        self.check_files()

    # ---- POMs ------------------------------------------------------------------------------------

    def check_pom(self, artifact, pom):
        where, version = self.name(pom.path), pom.text("version")
        self.expect(VERSION.fullmatch(version), f"{where}: '{version}' is no version of a release")
        self.expect((pom.text("groupId"), pom.text("artifactId"), version) ==
                    (GROUP, artifact, pom.path.parent.name),
                    f"{where}: says {pom.text('groupId')}:{pom.text('artifactId')}:{version}")
        for fact in FACTS:
            self.expect(pom.text(fact), f"{where}: has no {fact}")
        own = [name for name in pom.properties if not name.startswith(PLATFORM)
               and name not in ("project.version", "javacpp.version")]
        self.expect(pom.root.find("parent") is None, f"{where}: has a parent")
        self.expect(not own, f"{where}: has the properties {', '.join(own)}")
        for element in ("build", "repositories", "modules", "distributionManagement"):
            self.expect(pom.root.find(element) is None, f"{where}: has <{element}>")
        self.check_dependencies(where, pom)

    def check_dependencies(self, where, pom):
        for group, artifact, version, classifier, scope in pom.dependencies():
            what = f"{group}:{artifact}:{version}" + (f":{classifier}" if classifier else "")
            self.expect(version and "SNAPSHOT" not in version and "${" not in what,
                        f"{where}: depends on {what}, which is no release")
            self.expect(scope != "test", f"{where}: depends on {what} for its tests")
            if group == GROUP:
                self.expect_file(artifact, version, classifier, f"{where} depends on it")

    def expect_file(self, artifact, version, classifier, why):
        path = self.file(artifact, version, classifier)
        pom = self.poms.get(artifact)
        if pom and pom.packaging() == "pom" or path.exists():
            return
        self.missing.setdefault(path, f"{self.name(path)} is missing: {why}")

    def check_bom(self):
        bom = self.poms.get("exeunt-bom")
        if not self.expect(bom, f"there is no bill of materials, {GROUP}:exeunt-bom"):
            return
        managed = set()
        for group, artifact, version, classifier, _ in bom.dependencies(
                "dependencyManagement/dependencies"):
            managed.add((artifact, classifier))
            self.expect((group, version) == (GROUP, bom.text("version")),
                        f"{self.name(bom.path)}: has {group}:{artifact}:{version}")
            self.expect_file(artifact, version, classifier, f"{self.name(bom.path)} lists it")
        for artifact, pom in self.poms.items():
            for jar in pom.path.parent.glob("*.jar"):
                classifier = jar.stem[len(f"{artifact}-{pom.text('version')}-"):]
                self.expect(classifier in ("sources", "javadoc") or (artifact, classifier) in managed,
                            f"{self.name(bom.path)}: does not list {jar.name}")

    def check_platform(self):
        """Natives of ours and JavaCPP's by platform, and the same JavaCPP as the binding's."""
        pom, binding = self.poms.get("exeunt-platform"), self.poms.get("exeunt-jni")
        if not self.expect(pom and binding, "exeunt-platform or exeunt-jni is missing"):
            return
        platforms = {name[len(PLATFORM):] for name in pom.properties if name.startswith(PLATFORM)}
        listed = {}
        for _, artifact, version, classifier, _ in pom.dependencies():
            listed.setdefault(artifact, set()).add(classifier)
            if artifact == "javacpp":
                known = {v for _, a, v, _, _ in binding.dependencies() if a == "javacpp"}
                self.expect({version} == known, f"{self.name(pom.path)}: has javacpp {version}, and "
                            f"exeunt-jni {', '.join(known) or 'none'}")
        self.expect(listed == {"exeunt": {""}, "exeunt-jni": platforms, "javacpp": platforms},
                    f"{self.name(pom.path)}: does not depend on exeunt, exeunt-jni and javacpp for "
                    f"{', '.join(sorted(platforms))}")
        for platform in sorted(platforms):
            profiles = {profile.findtext("activation/property/name"): profile
                        for profile in pom.root.iterfind("profiles/profile")}
            narrowed = profiles.get("javacpp.platform")
            self.expect(narrowed is not None and narrowed.findtext(
                f"properties/{PLATFORM}{platform}") == "${javacpp.platform}",
                        f"{self.name(pom.path)}: -Djavacpp.platform does not narrow {platform}")

    # ---- jars ------------------------------------------------------------------------------------

    def check_jars(self, artifact, pom):
        version = pom.text("version")
        names = {}
        for classifier in ("", "sources", "javadoc"):
            path = self.file(artifact, version, classifier)
            if self.expect(path.exists(), f"{self.name(path)} is missing"):
                names[classifier] = self.entries(path)
        if "javadoc" in names:
            self.expect("index.html" in names["javadoc"], f"{artifact}'s javadoc has no index.html")
        if {"", "sources"} <= names.keys():
            classes = {name for name in names[""] if name.endswith(".class") and "$" not in name}
            self.expect(names["sources"] and (classes or artifact == "exeunt-platform"),
                        f"{artifact} has no classes or no sources")
            lacking = sorted({name.replace(".class", ".java") for name in classes} - names["sources"])
            self.expect(not lacking, f"{artifact}'s sources do not have {', '.join(lacking[:3])}")
        for jar in sorted(pom.path.parent.glob("*.jar")):
            classifier = jar.stem[len(f"{artifact}-{version}-"):]
            if classifier not in ("sources", "javadoc"):
                self.check_jar(jar, classifier)
        self.check_sbom(artifact, pom)

    def entries(self, path):
        try:
            with zipfile.ZipFile(path) as jar:
                broken = jar.testzip()
                self.expect(broken is None, f"{self.name(path)}: {broken} is damaged")
                return {name for name in jar.namelist() if not name.endswith("/")}
        except zipfile.BadZipFile as e:
            self.expect(False, f"{self.name(path)} is no jar: {e}")
            return set()

    def check_jar(self, path, classifier):
        """A platform's jar has its libraries with digests, in its folder and nowhere else."""
        names = self.entries(path)
        for text in ("META-INF/LICENSE", "META-INF/NOTICE"):
            self.expect(text in names, f"{self.name(path)} has no {text}")
        natives = {name for name in names if re.search(r"\.(so|dll|dylib)$", name)}
        if not classifier:
            self.expect(not natives, f"{self.name(path)} holds natives: {', '.join(sorted(natives))}")
            return
        self.expect(natives, f"{self.name(path)} holds no library")
        for native in sorted(natives):
            self.expect(native.startswith(f"{self.home.relative_to(self.folder)}/{classifier}/")
                        and f"{native}.digest" in names,
                        f"{self.name(path)}: {native} has no digest, or is not {classifier}'s")

    def check_sbom(self, artifact, pom):
        path = self.file(artifact, pom.text("version"), "cyclonedx", "json")
        try:
            sbom = json.loads(path.read_text())
        except (OSError, ValueError) as e:
            self.expect(False, f"{artifact} has no list of what it is made of: {e}")
            return
        purl = f"pkg:maven/{GROUP}/{artifact}@{pom.text('version')}"
        own = sbom.get("metadata", {}).get("component", {}).get("purl", "")
        self.expect(sbom.get("bomFormat") == "CycloneDX" and own.startswith(purl),
                    f"{self.name(path)} is no CycloneDX of {purl}, but of {own or 'nothing'}")
        for native, part in self.linked(artifact, pom.text("version")):
            into = [p.get("value") for c in sbom.get("components", []) if c.get("name") == part
                    and c.get("version") and c.get("licenses") for p in c.get("properties", [])]
            self.expect(native in into, f"{self.name(path)} does not list {part}, of which {native} has a part, "
                        "with version and licence")
        listed = {(part.get("group"), part.get("name"), part.get("version"))
                  for part in sbom.get("components", [])}
        for *dependency, classifier, _ in pom.dependencies():
            # The build takes one platform; of the others there is the same.
            self.expect(tuple(dependency) in listed,
                        f"{self.name(path)} does not list {':'.join(dependency)}")

    def linked(self, artifact, version):
        """Libraries in the jars of an artifact, and what their bytes show of others."""
        for path in sorted((self.home / artifact / version).glob("*.jar")):
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as jar:
                    for name in jar.namelist():
                        if re.search(r"\.(so|dll|dylib)$", name):
                            content = jar.read(name)
                            yield from ((name, part) for part, sign in SIGNS.items() if sign in content)

    # ---- all files -------------------------------------------------------------------------------

    def check_files(self):
        files = {path for path in self.folder.rglob("*") if path.is_file()}
        sides = {path for path in files if path.name in BESIDE or path.name.endswith("-bundle.zip")
                 if path.parent == self.folder}
        marks = {path for path in files if path.suffix[1:] in (*CHECKSUMS, "asc")} - sides
        data = files - sides - marks
        for path in sorted(data):
            known = path.parent.parent.name in self.poms and path.name.startswith(
                f"{path.parent.parent.name}-{path.parent.name}")
            self.expect(known and path.suffix in (".jar", ".pom", ".json"),
                        f"{self.name(path)} does not belong to a release")
            self.check_sums(path)
        for mark in sorted(marks):
            self.expect(mark.with_suffix("") in data, f"{self.name(mark)} is of no file")
        self.check_signatures(sorted(data))

    def check_sums(self, path):
        content = path.read_bytes()
        for kind in CHECKSUMS:
            file = path.with_name(f"{path.name}.{kind}")
            said = file.read_text().split()[:1] if file.exists() else []
            self.expect(said == [hashlib.new(kind, content).hexdigest()],
                        f"{self.name(file)} is {'wrong' if said else 'missing'}")

    def check_signatures(self, data):
        key = self.folder / "key.asc"
        if not self.expect(key.exists(), "there is no key.asc to check signatures with"):
            return
        with tempfile.TemporaryDirectory() as home:
            gpg = ["gpg", "--homedir", home, "--batch", "--no-autostart"]
            imported = subprocess.run([*gpg, "--import", key], capture_output=True, check=False)
            self.expect(imported.returncode == 0, "key.asc is no key")
            for path in data:
                signature = path.with_name(path.name + ".asc")
                if self.expect(signature.exists(), f"{self.name(signature)} is missing"):
                    done = subprocess.run([*gpg, "--verify", signature, path], capture_output=True,
                                          check=False)
                    self.expect(done.returncode == 0,
                                f"{self.name(signature)} is no signature of {path.name} by key.asc")
                    self.signed += done.returncode == 0


def main():
    options = sys.argv[1:]
    partial = "--partial" in options
    folders = [option for option in options if option != "--partial"]
    if len(folders) != 1 or not pathlib.Path(folders[0]).is_dir():
        sys.exit(__doc__)
    release = Release(pathlib.Path(folders[0]).resolve())
    release.check()
    missing = list(release.missing.values())
    wrong = release.problems + ([] if partial else missing)
    print("\n".join(wrong + ([f"not there yet: {what}" for what in missing] if partial else [])))
    if not wrong:
        print(f"{len(release.poms)} artifacts, {release.signed} signed files: fit to be published"
              + (", but for what is missing" if release.missing else ""))
    sys.exit(bool(wrong))


main()
