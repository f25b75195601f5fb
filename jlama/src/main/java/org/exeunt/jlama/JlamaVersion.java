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

  private JlamaVersion() {}

  /** One sentence about operations that Jlama asks for and {@code ours} lacks, or nothing. */
  static String misfit(Class<?> asked, Class<?> ours) {
    Set<String> lacking = new TreeSet<>();
    for (Method method : asked.getMethods()) {
      if (Modifier.isAbstract(method.getModifiers()) && !has(ours, method)) {
        lacking.add(method.getName());
      }
    }
    return lacking.isEmpty()
        ? ""
        : "this Jlama (" + found() + ") asks its operations for " + lacking
            + ", exeunt-jlama was made for " + MADE_FOR;
  }

  /** One sentence about a Jlama whose model classes are others. */
  static String another(IncompatibleClassChangeError found) {
    return "this Jlama (" + found() + ") has no " + found.getMessage()
        + ", exeunt-jlama was made for " + MADE_FOR;
  }

  private static boolean has(Class<?> ours, Method method) {
    try {
      Method own = ours.getMethod(method.getName(), method.getParameterTypes());
      return !Modifier.isAbstract(own.getModifiers())
          && own.getReturnType() == method.getReturnType();
    } catch (NoSuchMethodException e) {
      return false;
    }
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
