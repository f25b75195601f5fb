// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import org.exeunt.Backend;
import org.junit.jupiter.api.extension.AfterAllCallback;
import org.junit.jupiter.api.extension.AfterEachCallback;
import org.junit.jupiter.api.extension.BeforeAllCallback;
import org.junit.jupiter.api.extension.BeforeEachCallback;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.ExtensionContext.Namespace;

/**
 * Fails each test that holds more native memory after its end than before it began, and each class
 * of tests that holds another amount: what fields allocate is there before a test begins. It is
 * found as a service, so no test can forget it.
 */
public final class NativeBytes
    implements BeforeAllCallback, AfterAllCallback, BeforeEachCallback, AfterEachCallback {
  private static final Namespace NAMESPACE = Namespace.create(NativeBytes.class);

  @Override
  public void beforeAll(ExtensionContext context) {
    note(context);
  }

  @Override
  public void beforeEach(ExtensionContext context) {
    note(context);
  }

  @Override
  public void afterEach(ExtensionContext context) {
    compare(context, false);
  }

  @Override
  public void afterAll(ExtensionContext context) {
    compare(context, true);
  }

  private static void note(ExtensionContext context) {
    context.getStore(NAMESPACE).put(context.getUniqueId(), Backend.heldBytes());
  }

  private static void compare(ExtensionContext context, boolean exactly) {
    long before = context.getStore(NAMESPACE).get(context.getUniqueId(), Long.class);
    long after = Backend.heldBytes();
    if (after > before || exactly && after != before) {
      throw new AssertionError(context.getDisplayName() + " leaves " + (after - before)
          + " bytes of native memory: " + before + " before it, " + after + " after it");
    }
  }
}
