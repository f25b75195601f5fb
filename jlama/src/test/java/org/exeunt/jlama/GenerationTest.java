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
 * than 0.02 here. The texts were recorded of Jlama, which says them again in full runs.
 */
@EnabledIf(value = "org.exeunt.jlama.SmolLm#present",
    disabledReason = "the model is not here (set EXEUNT_MODEL, or run ./exeunt demo once)")
class GenerationTest {
  private static final boolean QUICK = Boolean.getBoolean("exeunt.quick");
  private static final String F32 =
      " Paris.\\n\\nThe capital of the United States is New York City."
      + "\\n\\nThe capital of Australia is Sydney.\\n\\nThe capital of the United Kingdom is London."
      + "\\n\\nThe capital of Canada is Toronto.\\n\\nThe capital of the United Arab Emirates is Dubai."
      + "\\n\\nThe capital of the United Arab Emirates is Abu Dhabir-Kabir.\\n\\nThe capital of the "
      + "United Arab Emirates is Abu Dhabir.\\n\\nThe capital of the United Arab Emirates is Abu "
      + "Dhabir-Kabir";
  private static final String Q4 =
      " Paris, the capital of the French nation. It is a major European "
      + "city and the most populous European capital.\\n\\nThe capital of France is a vibrant city "
      + "with a rich history and culture. Paris is famous for its iconic landmarks like the Eiffel "
      + "Tower, Notre Dame de France, and Louvre. It is also famous for its fashion city, with many "
      + "famous fashion houses and celebrities visiting to experience the city's glamour.\\n\\nThe "
      + "city of Paris is also famous for its food, with many famous restaurants and cafes serving up";

  /** Weights in f32: of bf16 ones Jlama rounds activations to bf16, the model class does not. */
  @Test
  void theSameTokensWithAndWithout() throws IOException, InterruptedException {
    compare(SmolLm.folder(org.exeunt.DType.F32), F32, QUICK ? 40 : 112);
  }

  @Test
  void theSameTokensOfFourBits() throws IOException, InterruptedException {
    compare(SmolLm.quantised(), Q4, QUICK ? 40 : 64);
  }

  private static void compare(Path folder, String recorded, int tokens)
      throws IOException, InterruptedException {
    String operations = QUICK ? "not asked" : run(Peers.Kind.VECTOR_API, folder, recorded, tokens);
    assertTrue(QUICK || operations.contains("Panama"), operations);
    operations = run(Peers.Kind.PRODUCTS, folder, recorded, tokens);
    assertTrue(operations.startsWith("exeunt"), operations);
    run(Peers.Kind.MODEL, folder, recorded, tokens);
  }

  /** The model class has one thread: a second would wait for a core where others build and test. */
  private static String run(Peers.Kind kind, Path folder, String recorded, int tokens)
      throws IOException, InterruptedException {
    int threads = kind == Peers.Kind.MODEL ? 1 : 2;
    Peers.Answer answer =
        Peers.run(kind, folder, "-", threads, tokens, 1, "The capital of France is");
    System.out.printf("%s of %s: %.1f tokens/s%n", kind, folder.getFileName(), answer.best());
    int length = Math.min(answer.text().length(), recorded.length());
    assertTrue(length > 2 * tokens, answer.text());
    assertEquals(recorded.substring(0, length), answer.text());
    return answer.operations();
  }
}
