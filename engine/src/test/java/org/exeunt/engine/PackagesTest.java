// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine;

import static com.tngtech.archunit.library.dependencies.SlicesRuleDefinition.slices;
import static java.util.stream.Collectors.counting;
import static java.util.stream.Collectors.groupingBy;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;

import com.tngtech.archunit.core.domain.JavaClass;
import com.tngtech.archunit.core.domain.JavaClasses;
import com.tngtech.archunit.core.importer.ClassFileImporter;
import com.tngtech.archunit.core.importer.ImportOption;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;

/** How the engine's packages lie on each other: none in a circle, none too large to be read. */
class PackagesTest {
  private static final String ROOT = "org.exeunt.engine";
  private static final int MOST_CLASSES = 30;

  private static final JavaClasses CLASSES =
      new ClassFileImporter()
          .withImportOption(new ImportOption.DoNotIncludeTests())
          .importPackages(ROOT);

  @Test
  void noPackagesFormACircle() {
    slices().matching(ROOT + ".(**)").should().beFreeOfCycles().check(CLASSES);
  }

  /** Each is a package of its own, whatever package its name begins with. */
  @Test
  void noPackageIsLarge() {
    Map<String, Long> sizes =
        CLASSES.stream()
            .filter(JavaClass::isTopLevelClass)
            .collect(groupingBy(JavaClass::getPackageName, TreeMap::new, counting()));
    assertFalse(sizes.isEmpty(), "no class was found below " + ROOT);
    assertEquals(Map.of(), tooLarge(sizes), "packages with more than " + MOST_CLASSES + " classes");
    assertNull(sizes.get(ROOT), "classes that are in no package below " + ROOT);
  }

  private static Map<String, Long> tooLarge(Map<String, Long> sizes) {
    Map<String, Long> large = new TreeMap<>(sizes);
    large.values().removeIf(size -> size <= MOST_CLASSES);
    return large;
  }
}
