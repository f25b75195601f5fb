// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.jinja;

/**
 * What a template may use up. Whatever it does costs steps, in proportion to the time, and what it
 * puts together costs characters, in proportion to the memory; so neither a loop nor a text that
 * doubles goes on for ever.
 */
final class Budget {
  /** Expressions and statements in one another, calls among them: a stack holds as many. */
  static final int MOST_DEPTH = 200;

  /** As many comparisons of characters as take the time of a step. */
  private static final int SEARCHED_PER_STEP = 512;

  private final long mostSteps;
  private final long mostCharacters;
  private long steps;
  private long characters;
  private int depth;
  private int line = 1;

  Budget(long mostSteps, long mostCharacters) {
    this.mostSteps = mostSteps;
    this.mostCharacters = mostCharacters;
  }

  /** What follows stands in this line. */
  void at(int newLine) {
    line = newLine;
  }

  TemplateException problem(String what) {
    return new TemplateException(line, what);
  }

  void steps(long count) throws TemplateException {
    steps += count;
    if (count < 0 || steps > mostSteps) {
      throw problem("the template takes more than " + mostSteps + " steps");
    }
  }

  /** Before a text of {@code count} characters, or a list of so many elements, is made. */
  void characters(long count) throws TemplateException {
    characters += count;
    if (count < 0 || characters > mostCharacters) {
      throw problem("the template puts together more than " + mostCharacters + " characters");
    }
  }

  /** Before one text is looked for in another. */
  void search(String text, String part) throws TemplateException {
    steps(1 + (long) text.length() * Math.max(1, part.length()) / SEARCHED_PER_STEP);
  }

  void enter() throws TemplateException {
    steps(1);
    if (++depth > MOST_DEPTH) {
      throw problem("the template is nested more than " + MOST_DEPTH + " levels deep");
    }
  }

  void leave() {
    depth--;
  }
}
