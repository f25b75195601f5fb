// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.cli;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;

/** The help pages: files, which the launcher shows without building anything. */
final class Help {
  private Help() {}

  static String of(String command) {
    try (InputStream page = Help.class.getResourceAsStream("/help/" + command + ".txt")) {
      return new String(page.readAllBytes(), StandardCharsets.UTF_8).replaceAll("(?m)^#.*\\R", "");
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
