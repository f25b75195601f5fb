// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtSession;
import java.util.List;
import org.junit.jupiter.api.Test;

/** An If that leaves early: who leaves where, and what the heads say. */
class EarlyExitTest {
  @Test
  void rowsLeaveWhereTheyAreSure() throws Exception {
    OrtEnvironment environment = MiniLm.environment();
    byte[] model = MiniLm.model();
    int[] known = new int[60];
    int[] asked = new int[Boolean.getBoolean("exeunt.quick") ? 30 : 60];
    List<String> examples = EarlyExit.sentences(known.length, 1, known);
    List<String> questions = EarlyExit.sentences(asked.length, 2, asked);
    try (HuggingFaceTokenizer tokenizer = MiniLm.tokenizer()) {
      EarlyExit.Head first = EarlyExit.Head.of(
          EarlyExit.states(model, EarlyExit.EXIT_LAYER, tokenizer, examples), known, 3);
      EarlyExit.Head last = EarlyExit.Head.of(
          EarlyExit.states(model, EarlyExit.LAYERS, tokenizer, examples), known, 3);
      List<EarlyExit.Answer> all = null;
      for (float threshold : new float[] {0, 0.9f, 2}) {
        byte[] graph = EarlyExit.build(model, first, last, 3, threshold);
        try (OrtSession.SessionOptions options = EarlyExit.options(2);
            OrtSession session = environment.createSession(graph, options)) {
          List<EarlyExit.Answer> answers = EarlyExit.run(session, tokenizer, questions);
          int right = 0;
          int early = 0;
          for (int i = 0; i < asked.length; i++) {
            right += answers.get(i).label() == asked[i] ? 1 : 0;
            early += answers.get(i).layer() == EarlyExit.EXIT_LAYER ? 1 : 0;
          }
          System.out.printf("threshold %.1f: %d of %d left early, %d right%n", threshold, early,
              asked.length, right);
          assertTrue(right > asked.length * 2 / 3, right + " right");
          if (threshold == 0) {
            assertEquals(asked.length, early);
            all = answers;
          } else if (threshold == 2) {
            assertEquals(0, early);
          } else {
            for (int i = 0; i < asked.length; i++) {
              boolean sure = all.get(i).p1() >= threshold;
              assertEquals(sure ? EarlyExit.EXIT_LAYER : EarlyExit.LAYERS, answers.get(i).layer());
              assertTrue(!sure || answers.get(i).equals(all.get(i)));
            }
            assertTrue(early > 0 && early < asked.length, early + " left early");
          }
        }
      }
    }
  }
}
