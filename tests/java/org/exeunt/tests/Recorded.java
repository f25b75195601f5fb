// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.function.Predicate;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;

/** What the code of one method's authors returned: the cases' numbers and their tensors. */
final class Recorded {
  /** Relative gap that rounding inputs to f32 cannot close. */
  private static final double CLEAR = 1e-4;

  private final Safetensors tensors;
  private final String json;
  private String name;
  private String numbers;

  Recorded(String method) {
    Path file = Setup.golden("official/" + method + ".safetensors");
    tensors = new Safetensors(file);
    try {
      json = Files.readString(file.resolveSibling(method + ".json"));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** The cases that are wanted, which are so many; each is looked at while it is the next. */
  Iterable<String> cases(int count, Predicate<Recorded> wanted) {
    List<String> names = tensors.cases().stream().filter(name -> wanted.test(at(name))).toList();
    assertEquals(count, names.size(), "cases that can be compared");
    return () -> names.stream().peek(this::at).iterator();
  }

  private Recorded at(String which) {
    name = which;
    int begin = json.indexOf('{', json.indexOf("\"" + which + "\""));
    numbers = json.substring(begin, json.indexOf("\"tensors\"", begin));
    return this;
  }

  String text(String field) {
    Matcher m = Pattern.compile("\"" + field + "\"\\s*:\\s*(\"[^\"]*\"|\\[[^]]*]|[^,}\\s]+)")
                    .matcher(numbers);
    return m.find() ? m.group(1).replace("\"", "") : "";
  }

  int integer(String field) {
    return Integer.parseInt(text(field));
  }

  double number(String field) {
    return Double.parseDouble(text(field));
  }

  int[] integers(String field) {
    return Arrays.stream(text(field).replaceAll("[\\[\\]\\s]", "").split(","))
        .mapToInt(Integer::parseInt)
        .toArray();
  }

  /** Whether no list of the case is cut where f32 cannot tell. */
  boolean clear() {
    String gap = text("boundary_gap_rel");
    return gap.equals("null") || Double.parseDouble(gap) > CLEAR;
  }

  boolean has(String tensor) {
    return tensors.find(name + "/" + tensor) != null;
  }

  Safetensors.Array get(String tensor) {
    return tensors.get(name + "/" + tensor);
  }

  float[] floats(String tensor) {
    Safetensors.Array t = get(tensor);
    float[] values = new float[t.size()];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) t.at(i);
    }
    return values;
  }

  int[] ints(String tensor) {
    Safetensors.Array t = get(tensor);
    return IntStream.range(0, t.size()).map(i -> (int) t.at(i)).toArray();
  }
}
