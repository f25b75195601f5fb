// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** The files that the encoder's part of the demo reads, in one folder. */
public record EncoderFiles(Path folder) {
  /** all-MiniLM-L6-v2 as ONNX. */
  public Path model() {
    return folder.resolve("all-MiniLM-L6-v2.onnx");
  }

  /** Its tokenizer. */
  public Path tokenizer() {
    return folder.resolve("all-MiniLM-L6-v2.tokenizer.json");
  }

  /** Sentences of film reviews, each rated by twenty people. */
  public Path reviews() {
    return folder.resolve("movieReviewSnippets_GroundTruth.txt");
  }

  public List<Path> all() {
    return List.of(model(), tokenizer(), reviews());
  }

  /** The first that is not there, or null. */
  public Path missing() {
    return all().stream().filter(file -> !Files.isRegularFile(file)).findFirst().orElse(null);
  }
}
