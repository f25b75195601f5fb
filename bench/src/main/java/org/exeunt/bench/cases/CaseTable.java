// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.cases;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The rows tagged {@code bench} of the case tables that the tests use too (ops, packed into
 * the jar), and of {@code bench-cases}, which holds in the same format what only benchmarks
 * time.
 */
public final class CaseTable {
  private static final String SHARED = "/ops/";
  private static final String OWN = "/bench-cases/";

  private final Map<String, BenchCase> cases = new LinkedHashMap<>();

  private CaseTable() {}

  /** Reads the table of an op, such as {@code row_stats}. */
  public static CaseTable load(String op) {
    CaseTable table = new CaseTable();
    if (!table.read(SHARED + op + "/cases.tsv", op)) {
      throw new IllegalStateException("the case table of " + op + " is not in the jar");
    }
    table.read(OWN + op + ".tsv", op);
    return table;
  }

  /** The benchmark cases in the order of the table. */
  public List<BenchCase> cases() {
    return List.copyOf(cases.values());
  }

  /** The case with this id. */
  public BenchCase get(String id) {
    BenchCase found = cases.get(id);
    if (found == null) {
      throw new IllegalArgumentException("no benchmark case is called " + id);
    }
    return found;
  }

  private boolean read(String resource, String op) {
    try (InputStream stream = CaseTable.class.getResourceAsStream(resource)) {
      if (stream == null) {
        return false;
      }
      BufferedReader reader =
          new BufferedReader(new InputStreamReader(stream, StandardCharsets.UTF_8));
      List<String> columns = null;
      for (String line = reader.readLine(); line != null; line = reader.readLine()) {
        if (line.isBlank() || line.startsWith("#")) {
          continue;
        }
        List<String> fields = Arrays.asList(line.trim().split("\\s+"));
        if (columns == null) {
          columns = fields;
        } else {
          add(resource, op, columns, fields);
        }
      }
      return true;
    } catch (IOException e) {
      throw new IllegalStateException("cannot read " + resource, e);
    }
  }

  private void add(String resource, String op, List<String> columns, List<String> fields) {
    if (columns.size() != fields.size()) {
      throw new IllegalStateException(resource + ": case " + fields.get(0) + " has " + fields.size()
          + " fields, the header " + columns.size());
    }
    Map<String, String> values = new LinkedHashMap<>();
    for (int i = 0; i < columns.size(); i++) {
      values.put(columns.get(i), fields.get(i));
    }
    BenchCase benchCase = new BenchCase(op, values);
    if (benchCase.list("tags").contains("bench") && cases.put(benchCase.id(), benchCase) != null) {
      throw new IllegalStateException(resource + ": case " + benchCase.id() + " is there twice");
    }
  }
}
