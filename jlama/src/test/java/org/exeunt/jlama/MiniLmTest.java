// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIf;
import org.junit.jupiter.api.extension.ExtendWith;

/**
 * MiniLM in Jlama's BertModel embeds the same with exeunt as over Java's Vector API.
 * Jlama's natives come to other vectors for some of these sentences, at cosines down to 0.97.
 */
@ExtendWith(TestModels.class)
@EnabledIf(value = "org.exeunt.jlama.MiniLm#present",
    disabledReason = "the encoder is not here (run ./exeunt demo once)")
class MiniLmTest {
  @Test
  void theSameVectors() throws IOException, InterruptedException {
    List<float[]> jlama = vectors(Peers.Kind.VECTOR_API);
    List<float[]> exeunt = vectors(Peers.Kind.PRODUCTS);
    assertEquals(6, jlama.size());
    assertEquals(6, exeunt.size());
    for (int i = 0; i < jlama.size(); i++) {
      double cosine = Vectors.cosine(jlama.get(i), exeunt.get(i));
      assertTrue(cosine > 0.99999, "cosine " + cosine);
    }
  }

  private static List<float[]> vectors(Peers.Kind kind) throws IOException, InterruptedException {
    return Vectors.of(
        Peers.output(kind, Embedding.class, MiniLm.folder().toString(), "-", "2", "0"));
  }
}
