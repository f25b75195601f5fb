// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.policy;

import java.util.function.Supplier;

/** The numbers in an option such as {@code 5,25,64,0.97}; what is wrong is said in one sentence. */
public final class Arguments {
  private final String option;
  private final String text;
  private final String[] parts;

  /**
   * @param option what is being read, for messages
   * @param text numbers with commas between them
   * @param least numbers needed
   * @param most numbers taken
   * @param form what the numbers mean, for messages
   */
  public Arguments(String option, String text, int least, int most, String form) {
    this.option = option;
    this.text = text;
    parts = text.isEmpty() ? new String[0] : text.split(",", -1);
    if (parts.length < least || parts.length > most) {
      throw problem("needs " + form);
    }
  }

  public int count() {
    return parts.length;
  }

  /** The integer at {@code index}, which must lie in [{@code least}, {@code most}]. */
  public int integer(int index, String name, int least, int most) {
    return parse(name, least + " to " + most, () -> {
      int value = Integer.parseInt(parts[index].strip());
      return value >= least && value <= most ? value : null;
    });
  }

  /** The finite number at {@code index}. */
  public float number(int index, String name) {
    return number(index, name, "a finite number", -Float.MAX_VALUE, Float.MAX_VALUE);
  }

  /** The number at {@code index}, which must lie in [{@code least}, {@code most}]. */
  public float number(int index, String name, int least, int most) {
    return number(index, name, least + " to " + most, least, most);
  }

  private float number(int index, String name, String range, float least, float most) {
    return parse(name, range, () -> {
      float value = Float.parseFloat(parts[index].strip());
      return value >= least && value <= most ? value : null;
    });
  }

  private <T> T parse(String name, String range, Supplier<T> reader) {
    T value;
    try {
      value = reader.get();
    } catch (NumberFormatException e) {
      value = null;
    }
    if (value == null) {
      throw problem("needs " + name + " to be " + range);
    }
    return value;
  }

  private IllegalArgumentException problem(String what) {
    return new IllegalArgumentException(option + " is '" + text + "', but " + what);
  }
}
