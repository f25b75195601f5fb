// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.exeunt.bench.measure.Host;

/** What a run left: JMH's own JSON, with the host in the arguments of each fork. */
record Run(Host host, List<Figure> figures) {
  /** Reads a run; one sentence in an exception says why the file is none. */
  static Run read(Path raw) {
    try (Reader reader = Files.newBufferedReader(raw)) {
      JsonArray entries = JsonParser.parseReader(reader).getAsJsonArray();
      List<Figure> figures = new ArrayList<>();
      for (JsonElement entry : entries) {
        figures.add(Figure.of(entry.getAsJsonObject()));
      }
      return new Run(host(entries.get(0).getAsJsonObject()), figures);
    } catch (IOException e) {
      throw new IllegalArgumentException("cannot read " + raw + " (" + e + ")", e);
    } catch (RuntimeException e) {
      // What is missing shows where it is looked for: Gson and this package throw several kinds.
      throw new IllegalArgumentException(raw + " is no *.raw.json that a run has left", e);
    }
  }

  private static Host host(JsonObject entry) {
    List<String> arguments = new ArrayList<>();
    entry.getAsJsonArray("jvmArgs").forEach(argument -> arguments.add(argument.getAsString()));
    return Host.fromJvmArguments(arguments);
  }
}
