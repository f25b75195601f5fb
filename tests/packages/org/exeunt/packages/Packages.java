// SPDX-License-Identifier: Apache-2.0
package org.exeunt.packages;

import static com.tngtech.archunit.library.dependencies.SlicesRuleDefinition.slices;
import static java.util.stream.Collectors.counting;
import static java.util.stream.Collectors.groupingBy;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import com.tngtech.archunit.core.domain.JavaClass;
import com.tngtech.archunit.core.domain.JavaClasses;
import com.tngtech.archunit.core.importer.ClassFileImporter;
import com.tngtech.archunit.core.importer.ImportOption;
import com.tngtech.archunit.library.dependencies.SliceAssignment;
import com.tngtech.archunit.library.dependencies.SliceIdentifier;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** How a module's packages lie on each other; the classes of its tests are not looked at. */
public final class Packages {
  private static final int MOST_CLASSES = 30;

  private final JavaClasses classes;

  /**
   * Those of a package and below.
   *
   * @param more what else is not looked at
   */
  public Packages(String root, ImportOption... more) {
    classes =
        new ClassFileImporter()
            .withImportOption(new ImportOption.DoNotIncludeTests())
            .withImportOptions(List.of(more))
            .importPackages(root);
  }

  /** Fails where packages need each other. Each is one of its own, whatever its name begins with. */
  public void formNoCircle() {
    slices()
        .assignedFrom(new SliceAssignment() {
          @Override
          public SliceIdentifier getIdentifierOf(JavaClass one) {
            return SliceIdentifier.of(one.getPackageName());
          }

          @Override
          public String getDescription() {
            return "packages";
          }
        })
        .namingSlices("$1")
        .should()
        .beFreeOfCycles()
        .check(classes);
  }

  /** Fails where a package has more than {@value #MOST_CLASSES} classes, nested ones not counted. */
  public void areSmall() {
    Map<String, Long> large =
        classes.stream()
            .filter(JavaClass::isTopLevelClass)
            .collect(groupingBy(JavaClass::getPackageName, TreeMap::new, counting()));
    assertFalse(large.isEmpty(), "no class was found");
    large.values().removeIf(size -> size <= MOST_CLASSES);
    assertEquals(Map.of(), large, "packages with more than " + MOST_CLASSES + " classes");
  }
}
