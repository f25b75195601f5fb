// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.github.tjake.jlama.tensor.operations.TensorOperations;
import java.io.IOException;
import java.io.InputStream;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;

/** Whether the Jlama on the class path asks for the operations that exeunt-jlama has. */
final class JlamaVersion {
  static final String MADE_FOR = "0.8.4";

  /** What an implementation must have in the version this was made for. */
  private static final Set<String> ABSTRACT =
      Set.of("name", "batchDotProduct", "accumulate", "maccumulate", "saxpy", "scale");

  private JlamaVersion() {}

  /** One sentence about a Jlama of another shape, or nothing. */
  static String misfit() {
    return misfit(TensorOperations.class);
  }

  static String misfit(Class<?> operations) {
    Set<String> unknown = new TreeSet<>();
    for (Method method : operations.getMethods()) {
      if (Modifier.isAbstract(method.getModifiers()) && !ABSTRACT.contains(method.getName())) {
        unknown.add(method.getName());
      }
    }
    return unknown.isEmpty()
        ? ""
        : "this Jlama (" + found() + ") asks its operations for " + unknown
            + ", exeunt-jlama was made for " + MADE_FOR;
  }

  private static String found() {
    Properties properties = new Properties();
    try (InputStream stream = TensorOperations.class.getResourceAsStream(
             "/META-INF/maven/com.github.tjake/jlama-core/pom.properties")) {
      if (stream != null) {
        properties.load(stream);
      }
    } catch (IOException e) {
      return "of a version that cannot be read";
    }
    return properties.getProperty("version", "of no known version");
  }
}
