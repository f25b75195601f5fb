// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.io;

import java.io.IOException;
import java.nio.file.Path;

/**
 * A model file does not say what its format requires; the message names the file, the field and the
 * values.
 */
public final class ModelFormatException extends IOException {
  private static final long serialVersionUID = 1L;

  /**
   * @param file the offending file
   * @param problem one sentence: the field and the values that disagree
   */
  public ModelFormatException(Path file, String problem) {
    super(file + ": " + problem);
  }
}
