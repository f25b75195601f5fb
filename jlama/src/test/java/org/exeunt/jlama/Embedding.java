// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.model.functions.Generator;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.tensor.operations.TensorOperationsProvider;
import java.io.File;
import java.util.Arrays;
import java.util.Optional;

/**
 * Another program of a user of Jlama, who embeds sentences: {@code Embedding FOLDER QUANTISATION|-
 * THREADS ROUNDS}. Prints sentences per second of each round, and the vectors.
 */
final class Embedding {
  private static final String[] SENTENCES = {"The cat sits outside.", "A man is playing guitar.",
      "The new movie is awesome, and everybody who has seen it says so.", "Exeunt, with a bear.",
      "He who embeds short texts one by one wants each of them soon.", "Pasta is a kind of food."};

  private Embedding() {}

  public static void main(String[] arguments) {
    AbstractModel model = ModelSupport.loadModel(AbstractModel.InferenceType.FULL_EMBEDDING,
        new File(arguments[0]), null, DType.F32, DType.F32,
        arguments[1].equals("-") ? Optional.empty() : Optional.of(DType.valueOf(arguments[1])),
        Optional.of(Integer.valueOf(arguments[2])), Optional.empty(),
        com.github.tjake.jlama.safetensors.SafeTensorSupport::loadWeights);
    for (int round = 0; round < Integer.parseInt(arguments[3]); round++) {
      long begin = System.nanoTime();
      for (String sentence : SENTENCES) {
        model.embed(sentence, Generator.PoolingType.AVG);
      }
      System.out.printf("sentences/s %.2f%n", SENTENCES.length * 1e9 / (System.nanoTime() - begin));
    }
    for (String sentence : SENTENCES) {
      System.out.println(
          "vector " + Arrays.toString(model.embed(sentence, Generator.PoolingType.AVG)));
    }
    System.out.println("operations " + TensorOperationsProvider.get().name());
    model.close();
  }
}
