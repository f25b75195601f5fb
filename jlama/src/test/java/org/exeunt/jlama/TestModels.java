// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.extension.BeforeAllCallback;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.ExtensionContext.Namespace;

/**
 * Where models lie in the form that Jlama reads, each made once: in a folder as Jlama and
 * langchain4j keep what they have fetched. As an extension of a test class it removes them, some
 * hundred MB, when all tests have run.
 */
final class TestModels implements BeforeAllCallback {
  /** The owner of all models. */
  static final String OWNER = "test";

  private static final String DONE = ".finished"; // Jlama's mark: there is nothing to fetch

  /** Puts a model's files into an empty folder. */
  interface Maker {
    void make(Path folder) throws IOException;
  }

  /** The folder of all models. */
  static Path root() {
    return Path.of(System.getProperty("basedir", "."), "target", "models");
  }

  /** The folder of one model, made where it is not yet there. */
  static Path folder(String name, Maker maker) throws IOException {
    Path folder = root().resolve(OWNER + "_" + name);
    if (!Files.exists(folder.resolve(DONE))) {
      delete(folder); // what a run left that was stopped
      Files.createDirectories(folder);
      maker.make(folder);
      Files.createFile(folder.resolve(DONE));
    }
    return folder;
  }

  @Override
  public void beforeAll(ExtensionContext context) {
    context.getRoot()
        .getStore(Namespace.create(TestModels.class))
        .getOrComputeIfAbsent(
            "models", key -> (ExtensionContext.Store.CloseableResource) () -> delete(root()));
  }

  private static void delete(Path folder) throws IOException {
    if (!Files.exists(folder)) {
      return;
    }
    List<Path> all;
    try (Stream<Path> paths = Files.walk(folder)) {
      all = paths.sorted(Comparator.reverseOrder()).toList();
    }
    for (Path path : all) {
      Files.delete(path);
    }
  }
}
