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
 * {@link Products#parts}), and what they make of it is no text. The two best logits are never nearer
 * than 0.02 here.
 */
@EnabledIf(value = "org.exeunt.jlama.SmolLm#present",
    disabledReason = "the model is not here (set EXEUNT_MODEL, or run ./exeunt demo once)")
class GenerationTest {
  private static final boolean QUICK = Boolean.getBoolean("exeunt.quick");

  /** Weights in f32: of bf16 ones Jlama rounds activations to bf16, the model class does not. */
  @Test
  void theSameTokensWithAndWithout() throws IOException, InterruptedException {
    compare(SmolLm.folder(org.exeunt.DType.F32), "F32", QUICK ? 40 : 112);
  }

  @Test
  void theSameTokensOfFourBits() throws IOException, InterruptedException {
    compare(SmolLm.quantised(), "Q4", QUICK ? 30 : 112);
  }

  private static void compare(Path folder, String weights, int tokens)
      throws IOException, InterruptedException {
    Peers.Answer jlama = run(Peers.Kind.VECTOR_API, folder, 2, tokens);
    Peers.Answer products = run(Peers.Kind.PRODUCTS, folder, 2, tokens);
    // One thread: with two, each product would wait for a core where others build and test.
    Peers.Answer model = run(Peers.Kind.MODEL, folder, 1, tokens);
    assertTrue(jlama.operations().contains("Panama"), jlama.operations());
    assertTrue(products.operations().startsWith("exeunt"), products.operations());
    assertEquals(jlama.text(), products.text());
    assertEquals(jlama.text(), model.text());
    System.out.printf("%s: Jlama %.1f tokens/s, exeunt's products %.1f, its model class %.1f%n",
        weights, jlama.best(), products.best(), model.best());
  }

  private static Peers.Answer run(Peers.Kind kind, Path folder, int threads, int tokens)
      throws IOException, InterruptedException {
    return Peers.run(kind, folder, "-", threads, tokens, 1, "The capital of France is");
  }
}
