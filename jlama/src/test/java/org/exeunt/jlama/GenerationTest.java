// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.tjake.jlama.safetensors.DType;
import java.io.IOException;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIf;
import org.junit.jupiter.api.extension.ExtendWith;

/**
 * A program of a user of Jlama says the same with exeunt and without, word for word. Without means
 * Jlama's operations in Java: its natives leave out rows of a model of this width (512 of 576, see
 * {@link Products#parts}), and what they make of it is no text. The two best logits of the whole
 * model are never nearer than 0.02 here. The texts were recorded of Jlama, which says the first
 * again in full runs.
 */
@ExtendWith(TestModels.class)
@EnabledIf(value = "org.exeunt.jlama.SmolLm#present",
    disabledReason = "the model is not here (set EXEUNT_MODEL, or run ./exeunt demo once)")
class GenerationTest {
  private static final boolean QUICK = Boolean.getBoolean("exeunt.quick");
  private static final String F32 =
      " and copz(oaries evenvent very!.opiteact indeed unique67 our indeed ae job who non at one "
      + "indeed one another evenpite of";
  private static final String Q4 =
      " Paris, the capital of the French nation. It is a major European "
      + "city and the most populous European capital.\\n\\nThe capital of France is a vibrant city "
      + "with a rich history and culture. Paris is famous for its iconic landmarks like the Eiffel "
      + "Tower, Notre Dame de France, and Louvre. It is also famous for its fashion city";

  /**
   * A part of the model in f32: of bf16 weights Jlama rounds activations to bf16, the model
   * class does not.
   */
  @Test
  void theSameTokensWithAndWithout() throws IOException, InterruptedException {
    if (!QUICK) {
      String operations = run(Peers.Kind.VECTOR_API, SmolLm.part(DType.F32), F32, 36);
      assertTrue(operations.contains("Panama"), operations);
    }
    compare(SmolLm.part(DType.F32), F32, 36);
  }

  /** All of it; {@link Langchain4jTest} has Jlama answer as well. */
  @Test
  void theSameTokensOfFourBits() throws IOException, InterruptedException {
    compare(SmolLm.folder(DType.Q4), Q4, QUICK ? 16 : 28);
  }

  private static void compare(Path folder, String recorded, int tokens)
      throws IOException, InterruptedException {
    String operations = run(Peers.Kind.PRODUCTS, folder, recorded, tokens);
    assertTrue(operations.startsWith("exeunt"), operations);
    run(Peers.Kind.MODEL, folder, recorded, tokens);
  }

  private static String run(Peers.Kind kind, Path folder, String recorded, int tokens)
      throws IOException, InterruptedException {
    Peers.Answer answer = Peers.run(kind, folder, "-", 2, tokens, 1, "The capital of France is");
    System.out.printf("%s of %s: %.1f tokens/s%n", kind, folder.getFileName(), answer.best());
    int length = Math.min(answer.text().length(), recorded.length());
    assertTrue(length > 2 * tokens, answer.text());
    assertEquals(recorded.substring(0, length), answer.text());
    return answer.operations();
  }
}
