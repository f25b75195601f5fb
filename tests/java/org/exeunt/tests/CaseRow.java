// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.exeunt.DType;

/** One line of a case table; see ops/README.md. */
final class CaseRow {
  private static final Set<String> TAGS = Set.of("small", "exact", "big", "bench");

  /** Columns of the tables read so far that no test has looked at. */
  private static final Set<String> UNREAD = new TreeSet<>();

  private final Map<String, String> fields;
  private final String op;
  private Long seed; // asked for with each element of some fills

  private CaseRow(String op, Map<String, String> fields) {
    this.op = op;
    this.fields = fields;
  }

  /**
   * The cases of an op that this run wants: no big ones unless asked for, in a quick run none that
   * are only there for benchmarks, on an emulated device only every few of the small ones.
   */
  static Stream<CaseRow> of(String op) {
    List<CaseRow> wanted = read(op).stream().filter(CaseRow::wanted).toList();
    int every = Setup.every();
    return IntStream.range(0, wanted.size()).filter(i -> i % every == 0).mapToObj(wanted::get);
  }

  static List<CaseRow> read(String op) {
    Path path = Setup.root().resolve("ops").resolve(op).resolve("cases.tsv");
    List<String[]> lines;
    try (Stream<String> text = Files.lines(path)) {
      lines =
          text.map(String::strip)
              .filter(line -> !line.isEmpty() && !line.startsWith("#"))
              .map(line -> line.split("\\s+"))
              .toList();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    String[] columns = lines.get(0);
    for (String column : columns) {
      UNREAD.add(op + "." + column);
    }
    Set<String> ids = new HashSet<>();
    return lines.stream()
        .skip(1)
        .map(
            line -> {
              if (line.length != columns.length || !ids.add(line[0])) {
                throw new IllegalStateException(
                    path + ": wrong number of fields or id used twice: " + String.join(" ", line));
              }
              return new CaseRow(op, zip(columns, line));
            })
        .toList();
  }

  private static Map<String, String> zip(String[] columns, String[] line) {
    Map<String, String> fields = new LinkedHashMap<>();
    for (int i = 0; i < columns.length; i++) {
      fields.put(columns[i], line[i]);
    }
    return fields;
  }

  private boolean wanted() {
    if (Setup.emulated()) {
      return tag("small");
    }
    if (tag("bench") && Setup.quick()) {
      return false;
    }
    return !tag("big") || "1".equals(System.getenv("EXEUNT_TEST_BIG"));
  }

  String id() {
    return text("id");
  }

  long seed() {
    if (seed == null) {
      seed = integer("seed");
    }
    return seed;
  }

  boolean tag(String name) {
    String[] tags = text("tags").equals("-") ? new String[0] : text("tags").split(",");
    for (String tag : tags) {
      if (!TAGS.contains(tag)) {
        throw new IllegalStateException(id() + ": unknown tag '" + tag + "'");
      }
    }
    return Arrays.asList(tags).contains(name);
  }

  String text(String column) {
    String field = fields.get(column);
    if (field == null) {
      throw new IllegalStateException("no column '" + column + "'");
    }
    UNREAD.remove(op + "." + column);
    return field;
  }

  boolean given(String column) {
    return !text(column).equals("-");
  }

  long integer(String column) {
    return Long.parseLong(text(column));
  }

  int int32(String column) {
    return Integer.parseInt(text(column));
  }

  float number(String column) {
    return Float.parseFloat(text(column).replace("inf", "Infinity"));
  }

  boolean flag(String column) {
    return choice(column, "0", "1") == 1;
  }

  DType dtype(String column) {
    return DType.valueOf(text(column).toUpperCase());
  }

  /** The enum constant that a word names, in the enum's spelling or lower case. */
  <E extends Enum<E>> E choice(String column, Class<E> type) {
    return Enum.valueOf(type, text(column).toUpperCase());
  }

  int choice(String column, String... words) {
    int index = Arrays.asList(words).indexOf(text(column));
    if (index < 0) {
      throw new IllegalStateException(
          id() + ": " + column + ": unknown word '" + text(column) + "'");
    }
    return index;
  }

  Set<String> subset(String column, String... words) {
    Set<String> all = Set.of(words);
    if (text(column).equals("all")) {
      return all;
    }
    Set<String> parts = Set.of(text(column).split(","));
    if (!all.containsAll(parts)) {
      throw new IllegalStateException(
          id() + ": " + column + ": unknown word in '" + text(column) + "'");
    }
    return parts;
  }

  /** A column that a test forgot would be a parameter that is not tested. */
  static void assertAllRead() {
    Set<String> left = new TreeSet<>(UNREAD);
    UNREAD.clear();
    assertTrue(left.isEmpty(), () -> "columns not looked at: " + left);
  }

  @Override
  public String toString() {
    return id();
  }
}
