// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.langchain4j.data.embedding.Embedding;
import dev.langchain4j.data.segment.TextSegment;
import dev.langchain4j.model.embedding.EmbeddingModel;
import dev.langchain4j.model.embedding.onnx.OnnxEmbeddingModel;
import dev.langchain4j.model.embedding.onnx.PoolingMode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** langchain4j's embedding model on exeunt, beside its own. */
class ExeuntEmbeddingModelTest {
  private static final List<TextSegment> TEXTS =
      MiniLm.sentences(8, 3).stream().map(TextSegment::from).toList();

  @TempDir static Path folder;
  private static Path model;
  private static Path tokenizer;

  @BeforeAll
  static void unpack() throws IOException {
    MiniLm.environment();
    model = Files.write(folder.resolve("model.onnx"), MiniLm.model());
    tokenizer = folder.resolve("tokenizer.json");
    Files.copy(MiniLm.tokenizerStream(), tokenizer);
  }

  private static ExeuntEmbeddingModel.Builder builder() {
    return ExeuntEmbeddingModel.builder().model(model).tokenizer(tokenizer);
  }

  private static List<Embedding> embed(EmbeddingModel model) {
    return model.embedAll(TEXTS).content();
  }

  @Test
  void theVectorsAreLangchain4js() throws IOException {
    for (PoolingMode mode : PoolingMode.values()) {
      List<Embedding> expected = embed(new OnnxEmbeddingModel(model, tokenizer, mode));
      Path report = folder.resolve(mode + ".txt");
      try (ExeuntEmbeddingModel exeunt = builder()
               .poolingMode(mode)
               .threads(2)
               .provider(ExeuntProvider.configure().report(report))
               .build()) {
        assertEquals(384, exeunt.dimension());
        List<Embedding> actual = embed(exeunt);
        for (int i = 0; i < TEXTS.size(); i++) {
          double cosine = MiniLm.cosine(expected.get(i).vector(), actual.get(i).vector());
          assertTrue(cosine >= 0.9999, mode + ": cosine " + cosine);
        }
      }
      assertTrue(Files.readString(report).contains("claimed MatMul"), "exeunt took nothing");
    }
  }

  @Test
  void resourcesAndExecutors() {
    try (ExeuntEmbeddingModel files = builder().executor(Runnable::run).build();
        ExeuntEmbeddingModel resources = ExeuntEmbeddingModel.builder()
            .modelResource(MiniLm.MODEL)
            .tokenizerResource(MiniLm.TOKENIZER.substring(1))
            .build()) {
      List<Embedding> expected = embed(files);
      List<Embedding> actual = embed(resources);
      for (int i = 0; i < TEXTS.size(); i++) {
        assertArrayEquals(expected.get(i).vector(), actual.get(i).vector());
        assertArrayEquals(expected.get(i).vector(), files.embed(TEXTS.get(i)).content().vector());
      }
    }
  }

  /** Who embeds meanwhile comes to his end, and whoever comes later is refused. */
  @Test
  void closedByAnotherThread() throws InterruptedException {
    ExeuntEmbeddingModel closed = builder().threads(1).build();
    CountDownLatch begun = new CountDownLatch(1);
    AtomicReference<RuntimeException> end = new AtomicReference<>();
    Thread embedder = new Thread(() -> {
      try {
        while (true) {
          embed(closed);
          begun.countDown();
        }
      } catch (RuntimeException e) {
        end.set(e);
      }
    });
    embedder.start();
    begun.await();
    closed.close();
    embedder.join();
    assertTrue(
        end.get().toString().contains("the embedding model is closed"), end.get().toString());
    IllegalStateException e =
        assertThrows(IllegalStateException.class, () -> closed.embed("too late"));
    assertEquals("the embedding model is closed", e.getMessage());
    closed.close();
  }

  private static void refused(ExeuntEmbeddingModel.Builder builder, String sentence) {
    IllegalArgumentException e = assertThrows(IllegalArgumentException.class, builder::build);
    assertTrue(e.getMessage().contains(sentence), e.getMessage());
  }

  @Test
  void unsoundArgumentsAreNamed() throws IOException {
    refused(ExeuntEmbeddingModel.builder().tokenizer(tokenizer), "model is missing");
    refused(ExeuntEmbeddingModel.builder().model(model), "tokenizer is missing");
    refused(builder().poolingMode(null), "poolingMode is missing");
    refused(builder().provider(null), "provider is missing");
    assertEquals("threads is -1, expected 0 or more",
        assertThrows(IllegalArgumentException.class, () -> builder().threads(-1)).getMessage());
    refused(builder().model(folder), "model: '" + folder + "' is no file");
    refused(builder().tokenizer(Path.of("/nowhere")), "tokenizer: '/nowhere' is no file");
    refused(builder().modelResource("no.onnx"), "model: no resource 'no.onnx' on the class path");
    refused(builder().tokenizerResource("no.json"), "tokenizer: no resource 'no.json'");
    refused(builder().model(tokenizer), "model cannot be loaded: ");
    Graph small =
        new Graph()
            .input("input_ids", Graph.FLOAT, -1, -1, -1)
            .input("attention_mask", Graph.INT64, -1, -1)
            .output("y", Graph.FLOAT, -1, -1, -1);
    small.node("Relu", List.of(), new String[] {"input_ids"}, "y");
    Path encoder = Files.write(folder.resolve("small.onnx"), small.model(17));
    refused(builder().model(encoder).tokenizer(encoder), "tokenizer cannot be loaded: ");
    refused(builder().provider(ExeuntProvider.configure().option("treads", "2")),
        "there is no option 'treads'");
    Graph other = new Graph().input("x", Graph.FLOAT, -1, 4).output("y", Graph.FLOAT, -1, 4);
    other.node("Relu", List.of(), new String[] {"x"}, "y");
    refused(builder().model(Files.write(folder.resolve("other.onnx"), other.model(17))),
        "model has the inputs [x], expected input_ids, attention_mask and, if it takes them, "
            + "token_type_ids");
    Graph flat =
        new Graph()
            .input("input_ids", Graph.INT64, -1, -1)
            .input("attention_mask", Graph.INT64, -1, -1)
            .output("y", Graph.INT64, -1, -1);
    flat.node("Add", List.of(), new String[] {"input_ids", "attention_mask"}, "y");
    refused(builder().model(Files.write(folder.resolve("flat.onnx"), flat.model(17))),
        "expected the hidden states of all tokens, [batch, tokens, width]");
  }
}
