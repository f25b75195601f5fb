// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.github.tjake.jlama.model.functions.Generator;
import com.github.tjake.jlama.tensor.operations.TensorOperationsProvider;
import dev.langchain4j.model.chat.ChatModel;
import dev.langchain4j.model.embedding.EmbeddingModel;
import dev.langchain4j.model.jlama.JlamaChatModel;
import dev.langchain4j.model.jlama.JlamaEmbeddingModel;
import java.nio.file.Path;
import java.util.Arrays;

/**
 * A program of a user of langchain4j, which knows nothing of exeunt: {@code Langchain4j MODELS CHAT
 * EMBEDDING TOKENS}. Prints an answer and a vector, and what computed them.
 */
final class Langchain4j {
  private Langchain4j() {}

  public static void main(String[] arguments) {
    Path models = Path.of(arguments[0]);
    ChatModel chat =
        JlamaChatModel.builder()
            .modelCachePath(models)
            .modelName(arguments[1])
            .threadCount(2)
            .temperature(0f)
            .maxTokens(Integer.valueOf(arguments[3]))
            .build();
    System.out.println("text " + chat.chat("What is a hash table?").replace("\n", "\\n"));
    EmbeddingModel embedding =
        JlamaEmbeddingModel.builder()
            .modelCachePath(models)
            .modelName(arguments[2])
            .poolingType(Generator.PoolingType.AVG)
            .build();
    System.out.println("vector "
        + Arrays.toString(embedding.embed("He who runs a model in Java has one process less.")
                .content()
                .vector()));
    System.out.println("operations " + TensorOperationsProvider.get().name());
  }
}
