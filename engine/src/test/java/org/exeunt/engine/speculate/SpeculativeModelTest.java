// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.exeunt.DType;
import org.exeunt.engine.TestData;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.text.ChatTemplate;
import org.exeunt.engine.model.text.Tokenizer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** Drafts on SmolLM2, with quantised weights and with bf16, which a quick run leaves out. */
@ExtendWith(TestData.NeedsModel.class)
class SpeculativeModelTest {
  private static final String PROMPT = "Repeat the following text word by word: The harbour was "
      + "quiet that morning. Two fishing boats lay at the pier, their nets spread out to dry.";
  private static final int TOKENS = 24;

  private static List<Integer> plain(LlamaWeights weights, int... prompt) {
    List<Integer> tokens = new ArrayList<>();
    try (Decoder decoder = new Decoder(weights, DecoderOptions.FULL, 1, prompt.length + TOKENS)) {
      decoder.prefill(0, prompt);
      for (int i = 0; i < TOKENS; i++) {
        tokens.add(decoder.argmax(0));
        decoder.step(decoder.argmax(0));
      }
    }
    return tokens;
  }

  @Test
  void anAnswerThatQuotesTakesFewPasses() throws IOException {
    boolean quick = Boolean.getBoolean("exeunt.quick");
    for (DType type : quick ? new DType[] {null} : new DType[] {null, DType.BF16}) {
      try (GgufFile file = GgufFile.open(TestData.model());
          LlamaWeights weights = LlamaWeights.load(file, type)) {
        Tokenizer tokenizer = new Tokenizer(file);
        int[] prompt = tokenizer.encode(
            new ChatTemplate(file).render(List.of(new ChatTemplate.Message("user", PROMPT))));
        List<Integer> expected = plain(weights, prompt);
        int layers = weights.config().layers();
        List<String> sources =
            List.of("lookup", "selfdraft:" + (layers - 4), "del:18,5", "del-paper:1,1");
        for (String source : quick ? sources.subList(0, 3) : sources) {
          Speculation how =
              Speculation.parse(source, 0, source.startsWith("del") ? null : "fixed:4", layers);
          try (SpeculativeDecoder decoder = new SpeculativeDecoder(
                   new Decoder(weights, DecoderOptions.FULL, 1, prompt.length + TOKENS), how, null,
                   token -> false)) {
            decoder.prefill(0, prompt);
            List<Integer> found = new ArrayList<>();
            while (true) {
              for (int token : decoder.tokens(0)) {
                found.add(token);
              }
              if (found.size() >= TOKENS) {
                break;
              }
              decoder.round();
            }
            assertEquals(expected, found.subList(0, TOKENS), source + " " + type);
            if (source.equals("lookup")) {
              assertTrue(decoder.verifications() < TOKENS / 2,
                  decoder.verifications() + " passes, " + type);
            }
          }
        }
      }
    }
  }
}
