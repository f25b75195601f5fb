// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.drop;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import java.util.stream.IntStream;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.drop.PromptDrop;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.gguf.GgufFile;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class DropRunTest {
  private static final int PROMPT = 60;
  private static final int[] IDS = IntStream.range(0, 200).map(i -> 3 + i * i % 19).toArray();

  /** Tokens that are given in passes, of which two are needed here, are what steps give. */
  @Test
  void passesPredictWhatStepsDo(@TempDir Path folder) throws IOException {
    Map<String, Object> metadata = TinyModel.metadata();
    metadata.put("llama.context_length", 256);
    try (GgufFile file = GgufFile.open(TinyModel.write(folder.resolve("m.gguf"), metadata, null));
        LlamaWeights weights = LlamaWeights.load(file, null)) {
      for (String method : new String[] {"none", "promptdistill:1,20", "gemfilter:1,20",
               "snapkv:8,20", "h2o:.2,.2", "fastv:2,.5", "pyramiddrop:1,.5,3,.25"}) {
        DecoderOptions options =
            DecoderOptions.FULL.withDrop(PromptDrop.parse(method, TinyModel.LAYERS));
        DropRun run = DropRun.of(weights, options, IDS, PROMPT);
        int[] argmax = new int[IDS.length - PROMPT];
        double nll = 0;
        try (Decoder decoder = new Decoder(weights, options.withLogits(), 1, IDS.length)) {
          FloatBuffer logits = decoder.logits().floatBuffer();
          FloatBuffer lse = decoder.statistics().lse().floatBuffer();
          decoder.prefill(0, Arrays.copyOf(IDS, PROMPT));
          for (int i = 0; i < argmax.length; i++) {
            argmax[i] = decoder.argmax(0);
            nll += lse.get(0) - logits.get(IDS[PROMPT + i]);
            if (i + 1 < argmax.length) {
              decoder.step(IDS[PROMPT + i]);
            }
          }
        }
        assertArrayEquals(argmax, run.argmax(), method);
        assertEquals(nll / argmax.length, run.meanNll(), 1e-6, method);
      }
    }
  }
}
