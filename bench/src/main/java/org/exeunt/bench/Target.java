// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Locale;
import org.exeunt.bench.measure.Operands;

/** A promise about one case, from {@code targets.tsv}. */
final class Target {
  /** What is bounded. */
  enum Measure {
    /** Median microseconds. */
    US,
    /** Median time over the median limit. */
    LIMIT,
    /** Median time over that of another case of the op, with as many threads. */
    OF,
    /** Share of the FMA peak; the bound is the least. */
    PEAK,
    /** Nanoseconds that the Java API adds to the kernel. */
    CALL
  }

  final String op;
  final String id;
  /** Null: every thread count. */
  final Integer threads;
  /** Where the operands are when the promise is judged. */
  final Operands operands;
  final Measure measure;
  final double bound;
  /** The other case of {@link Measure#OF}; null for other measures. */
  final String base;

  Target(String op, String id, Integer threads, Operands operands, Measure measure, String base,
      double bound) {
    this.base = base;
    this.op = op;
    this.id = id;
    this.threads = threads;
    this.operands = operands;
    this.measure = measure;
    this.bound = bound;
  }

  /** All promises. */
  static List<Target> load() {
    try (BufferedReader reader = new BufferedReader(new InputStreamReader(
             Target.class.getResourceAsStream("/targets.tsv"), StandardCharsets.UTF_8))) {
      return reader.lines()
          .filter(line -> !line.isBlank() && !line.startsWith("#"))
          .skip(1)
          .map(Target::parse)
          .toList();
    } catch (IOException e) {
      throw new IllegalStateException("cannot read targets.tsv", e);
    }
  }

  private static Target parse(String line) {
    String[] fields = line.trim().split("\\s+");
    if (fields.length != 6) {
      throw new IllegalStateException("targets.tsv: six fields are needed in: " + line);
    }
    String[] measure = fields[4].split(":");
    return new Target(fields[0], fields[1],
        fields[2].equals("-") ? null : Integer.valueOf(fields[2]), Operands.of(fields[3]),
        Measure.valueOf(measure[0].toUpperCase(Locale.ROOT)),
        measure.length == 1 ? null : measure[1], Double.parseDouble(fields[5]));
  }

  /** Names of the cases that this promise needs, as op/id. */
  List<String> cases() {
    return base == null ? List.of(op + "/" + id) : List.of(op + "/" + id, op + "/" + base);
  }

  boolean covers(Figure figure) {
    return op.equals(figure.op) && id.equals(figure.id) && operands == figure.operands
        && (threads == null || threads == figure.threads);
  }
}
