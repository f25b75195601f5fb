# SPDX-License-Identifier: Apache-2.0
"""What the tests that make a Maven project of their own take from this build."""

import re


def plugins(root, names):
    """Plugins in the versions of this build, which its local repository has."""
    pom, found = (root / "pom.xml").read_text(), []
    for name in names:
        group, version = re.search(rf"<groupId>([^<]*)</groupId>\s*<artifactId>{name}</artifactId>\s*"
                                   r"<version>([^<]*)</version>", pom).groups()
        found.append(f"<plugin><groupId>{group}</groupId><artifactId>{name}</artifactId>"
                     f"<version>{version}</version></plugin>")
    return "".join(found)


def natives_of(platform):
    """The entries of the smallest jar of a platform."""
    library = f"org/exeunt/{platform}/libx.so"
    return ["META-INF/LICENSE", "META-INF/NOTICE", library, f"{library}.digest"]


def link_built(root, repository):
    """This build's POMs and jars, as `mvn install` would put them into a repository."""
    for pom in root.glob("*/.flattened-pom.xml"):
        artifact, version = re.search(r"<artifactId>([^<]*)</artifactId>\s*<version>([^<]*)</version>",
                                      pom.read_text()).groups()
        place = repository / "org/exeunt" / artifact / version
        place.mkdir(parents=True)
        (place / f"{artifact}-{version}.pom").symlink_to(pom)
        for jar in (pom.parent / "target").glob(f"{artifact}-{version}*.jar"):
            (place / jar.name).symlink_to(jar)
