// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.packages.Packages;
import org.junit.jupiter.api.Test;

/** How the packages of the benchmarks lie on each other: none in a circle, none too large to be read. */
class PackagesTest {
  private static final Packages PACKAGES =
      new Packages("org.exeunt.bench", place -> !place.contains("jmh_generated"));

  @Test
  void noPackagesFormACircle() {
    PACKAGES.formNoCircle();
  }

  @Test
  void noPackageIsLarge() {
    PACKAGES.areSmall();
  }
}
