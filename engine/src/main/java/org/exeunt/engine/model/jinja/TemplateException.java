// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.jinja;

/** A template that is none, that does what it may not, or that refuses what it is given. */
public final class TemplateException extends Exception {
  private static final long serialVersionUID = 1L;

  TemplateException(int line, String problem) {
    super("line " + line + ": " + problem);
  }
}
