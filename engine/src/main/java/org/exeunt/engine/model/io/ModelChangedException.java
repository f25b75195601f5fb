// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.io;

import java.nio.file.Path;

/** A model file changed while it was in use: what was computed of it since means nothing. */
public final class ModelChangedException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  /**
   * @param file the file
   * @param how one sentence's end, such as "was written to"
   */
  ModelChangedException(Path file, String how) {
    super(file + " " + how + " while it was in use: the results cannot be trusted");
  }
}
