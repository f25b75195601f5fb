// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.model.functions.Generator;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.safetensors.prompt.PromptContext;
import com.github.tjake.jlama.tensor.operations.TensorOperationsProvider;
import java.io.File;
import java.io.IOException;
import java.util.Optional;
import java.util.UUID;

/**
 * A program of a user of Jlama: {@code Generation FOLDER WORKING_TYPE QUANTISATION|- THREADS TOKENS
 * ROUNDS MODEL PROMPT}. MODEL is {@code jlama}, whose program knows nothing of exeunt, {@code
 * exeunt} for its model class, or the probability with which tokens leave that early.
 * Prints of each round tokens per second and the text.
 */
final class Generation {
  private Generation() {}

  public static void main(String[] arguments) throws IOException {
    File folder = new File(arguments[0]);
    Optional<DType> quantised =
        arguments[2].equals("-") ? Optional.empty() : Optional.of(DType.valueOf(arguments[2]));
    Optional<Integer> threads = Optional.of(Integer.valueOf(arguments[3]));
    String kind = arguments[6];
    AbstractModel model = kind.equals("jlama")
        ? ModelSupport.loadModel(
              folder, null, DType.F32, DType.valueOf(arguments[1]), quantised, threads)
        : WithExeunt.load(folder, quantised, threads, kind);
    for (int round = 0; round < Integer.parseInt(arguments[5]); round++) {
      Generator.Response response = model.generate(UUID.randomUUID(),
          PromptContext.of(arguments[7]), 0, Integer.parseInt(arguments[4]), (word, time) -> {});
      System.out.printf("tokens/s %.2f, prompt of %d in %d ms%n",
          response.generatedTokens * 1e3 / response.generateTimeMs, response.promptTokens,
          response.promptTimeMs);
      System.out.println("text " + response.responseText.replace("\n", "\\n"));
    }
    System.out.println("operations " + TensorOperationsProvider.get().name());
    model.close();
  }

  /** In a class of its own, since there may be no exeunt on the class path. */
  private static final class WithExeunt {
    static AbstractModel load(File folder, Optional<DType> quantised, Optional<Integer> threads,
        String kind) throws IOException {
      Exit exit = kind.equals("exeunt") ? null : new Exit(Float.parseFloat(kind), 10, 2);
      return ExeuntLlamaModel.load(folder, DType.F32, quantised, threads, exit);
    }
  }
}
