// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.model.functions.Generator;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.safetensors.prompt.PromptContext;
import com.github.tjake.jlama.tensor.AbstractTensor;
import com.github.tjake.jlama.tensor.KvBufferCache;
import com.github.tjake.jlama.tensor.operations.TensorOperationsProvider;
import java.nio.file.Path;
import java.util.Optional;
import java.util.UUID;

/**
 * A program of a user of Jlama, which knows nothing of exeunt:
 * {@code Generation FOLDER WORKING_TYPE MODEL_QUANTISATION|- THREADS TOKENS PROMPT}.
 */
final class Generation {
  private Generation() {}

  public static void main(String[] arguments) {
    Optional<DType> quantised =
        arguments[2].equals("-") ? Optional.empty() : Optional.of(DType.valueOf(arguments[2]));
    AbstractModel model = ModelSupport.loadModel(Path.of(arguments[0]).toFile(), null, DType.F32,
        DType.valueOf(arguments[1]), quantised, Optional.of(Integer.valueOf(arguments[3])));
    int tokens = Integer.parseInt(arguments[4]);
    for (int run = 0; run < 2; run++) {
      StringBuilder text = new StringBuilder();
      Generator.Response response = model.generate(UUID.randomUUID(),
          PromptContext.of(arguments[5]), 0, tokens, (word, time) -> text.append(word));
      System.out.printf("tokens/s %.2f prompt %d in %d ms, generated %d in %d ms%n",
          response.generatedTokens * 1e3 / response.generateTimeMs, response.promptTokens,
          response.promptTimeMs, response.generatedTokens, response.generateTimeMs);
      System.out.println("text " + text.toString().replace("\n", "\\n"));
    }
    System.out.println("operations " + TensorOperationsProvider.get().name());
    try {
      System.out.println("taken " + Products.taken() + " left " + Products.left());
    } catch (LinkageError e) {
      System.out.println("no exeunt");
    }
    model.close();
  }
}
