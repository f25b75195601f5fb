// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIfEnvironmentVariable;

/**
 * MiniLM in Jlama's BertModel embeds the same with exeunt as over Java's Vector API.
 * Jlama's natives come to other vectors for some of these sentences, at cosines down to 0.97.
 */
@EnabledIfEnvironmentVariable(named = "EXEUNT_MINILM", matches = ".+",
    disabledReason = "EXEUNT_MINILM names no folder with all-MiniLM-L6-v2 as safetensors")
class MiniLmTest {
  @Test
  void theSameVectors() throws IOException, InterruptedException {
    List<float[]> jlama = vectors(Peers.Kind.VECTOR_API);
    List<float[]> exeunt = vectors(Peers.Kind.PRODUCTS);
    assertEquals(6, jlama.size());
    assertEquals(6, exeunt.size());
    for (int i = 0; i < jlama.size(); i++) {
      double product = 0;
      for (int j = 0; j < jlama.get(i).length; j++) {
        product += (double) jlama.get(i)[j] * exeunt.get(i)[j];
      }
      assertTrue(product > 0.99999, "cosine " + product);
    }
  }

  private static List<float[]> vectors(Peers.Kind kind) throws IOException, InterruptedException {
    String output =
        Peers.output(kind, Embedding.class, System.getenv("EXEUNT_MINILM"), "-", "2", "0");
    return output.lines()
        .filter(line -> line.startsWith("vector ["))
        .map(line -> line.substring("vector [".length(), line.length() - 1).split(", "))
        .map(words -> {
          float[] vector = new float[words.length];
          for (int i = 0; i < vector.length; i++) {
            vector[i] = Float.parseFloat(words[i]);
          }
          return vector;
        })
        .toList();
  }
}
