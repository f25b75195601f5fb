// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIf;

/**
 * A program of a user of Jlama says the same with exeunt and without, word for word. Without means
 * Jlama's operations in Java: its natives leave out rows of a model of this width (512 of 576, see
 * {@link Products#parts}), and what they make of it is no text.
 */
@EnabledIf(value = "org.exeunt.jlama.SmolLm#present",
    disabledReason = "the model is not here (set EXEUNT_MODEL, or run ./exeunt demo once)")
class GenerationTest {
  private static final int TOKENS = Boolean.getBoolean("exeunt.quick") ? 40 : 112;

  @Test
  void theSameTokensWithAndWithout() throws IOException, InterruptedException {
    // Weights in f32: of bf16 ones Jlama rounds activations to bf16, the model class does not.
    Path folder = SmolLm.folder(org.exeunt.DType.F32);
    Peers.Answer jlama = run(Peers.Kind.VECTOR_API, folder);
    Peers.Answer products = run(Peers.Kind.PRODUCTS, folder);
    Peers.Answer model = run(Peers.Kind.MODEL, folder);
    assertTrue(jlama.operations().contains("Panama"), jlama.operations());
    assertTrue(products.operations().startsWith("exeunt"), products.operations());
    assertEquals(jlama.text(), products.text());
    assertEquals(jlama.text(), model.text());
    System.out.printf("Jlama %.1f tokens/s, exeunt's products %.1f, its model class %.1f%n",
        jlama.best(), products.best(), model.best());
  }

  private static Peers.Answer run(Peers.Kind kind, Path folder)
      throws IOException, InterruptedException {
    return Peers.run(kind, folder, "-", 2, TOKENS, 1, "The capital of France is");
  }
}
