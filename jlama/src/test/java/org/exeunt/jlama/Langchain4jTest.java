// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.tjake.jlama.safetensors.DType;
import java.io.IOException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledIfSystemProperty;
import org.junit.jupiter.api.condition.EnabledIf;
import org.junit.jupiter.api.extension.ExtendWith;

/** langchain4j's models for Jlama run on exeunt, and answer and embed as over Java's Vector API. */
@ExtendWith(TestModels.class)
@EnabledIf(
    value = "present", disabledReason = "model and encoder are not here (run ./exeunt demo once)")
@DisabledIfSystemProperty(named = "exeunt.quick", matches = "true",
    disabledReason = "a quick run asks Jlama without langchain4j")
class Langchain4jTest {
  private static final int TOKENS = 64; // with those of the question

  static boolean present() {
    return SmolLm.present() && MiniLm.present();
  }

  @Test
  void chatAndEmbeddingAreTheSame() throws IOException, InterruptedException {
    SmolLm.folder(DType.Q4);
    MiniLm.folder();
    String exeunt = output(Peers.Kind.PRODUCTS);
    assertTrue(Peers.line(exeunt, "operations ").startsWith("exeunt"), exeunt);
    String jlama = output(Peers.Kind.VECTOR_API);
    assertTrue(Peers.line(jlama, "operations ").startsWith("Panama"), jlama);
    String answer = Peers.line(jlama, "text ");
    assertTrue(answer.contains("hash table"), answer);
    assertEquals(answer, Peers.line(exeunt, "text "));
    double cosine = Vectors.cosine(Vectors.of(jlama).get(0), Vectors.of(exeunt).get(0));
    assertTrue(cosine > 0.99999, "cosine " + cosine);
  }

  private static String output(Peers.Kind kind) throws IOException, InterruptedException {
    return Peers.output(kind, Langchain4j.class, TestModels.root().toString(),
        TestModels.OWNER + "/smollm2-q4", TestModels.OWNER + "/minilm", String.valueOf(TOKENS));
  }
}
