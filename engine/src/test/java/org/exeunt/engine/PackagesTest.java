// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine;

import org.exeunt.packages.Packages;
import org.junit.jupiter.api.Test;

/** How the packages of the engine lie on each other: none in a circle, none too large to be read. */
class PackagesTest {
  private static final Packages PACKAGES = new Packages("org.exeunt.engine");

  @Test
  void noPackagesFormACircle() {
    PACKAGES.formNoCircle();
  }

  @Test
  void noPackageIsLarge() {
    PACKAGES.areSmall();
  }
}
