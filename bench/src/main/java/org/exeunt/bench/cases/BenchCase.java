// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.cases;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.exeunt.bench.reference.Storage;

/** One row of a case table. A column that is not there, or does not parse, is an error. */
public final class BenchCase {
  private final String op;
  private final Map<String, String> fields;

  BenchCase(String op, Map<String, String> fields) {
    this.op = op;
    this.fields = fields;
  }

  /** The table that the case is from. */
  public String op() {
    return op;
  }

  public String id() {
    return text("id");
  }

  public String text(String column) {
    String value = fields.get(column);
    if (value == null) {
      throw new IllegalArgumentException(op + " cases have no column " + column);
    }
    return value;
  }

  public int integer(String column) {
    return Integer.parseInt(text(column));
  }

  public float real(String column) {
    return Float.parseFloat(text(column));
  }

  public boolean flag(String column) {
    return integer(column) == 1;
  }

  public Storage storage(String column) {
    return Storage.of(text(column));
  }

  public List<String> list(String column) {
    return Arrays.asList(text(column).split(","));
  }

  /** Throws if a column asks for something that the benchmarks do not set up. */
  public BenchCase require(String column, String... known) {
    if (!Arrays.asList(known).contains(text(column))) {
      throw new IllegalArgumentException(
          "case " + op + "/" + id() + ": no benchmark sets up " + column + " = " + text(column));
    }
    return this;
  }

  @Override
  public String toString() {
    return op + "/" + id();
  }
}
