// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.Function;
import java.util.function.IntUnaryOperator;
import org.exeunt.DType;
import org.exeunt.InputRounding;
import org.exeunt.engine.device.DeviceDecoder;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyGemma;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.Weight;
import org.exeunt.engine.model.gguf.GgmlType;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.ModelChangedException;
import org.exeunt.engine.policy.ExitPolicy;
import org.exeunt.engine.policy.KvPolicy;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Weights that stay what the file has. */
class FileWeightsTest {
  private static final int TOKENS = 24;

  @TempDir Path folder;

  private interface Check {
    void see(LlamaWeights kept, LlamaWeights wide) throws IOException;
  }

  /** A model as its file has it, and as F32. */
  private static void both(Path model, Check check) throws IOException {
    try (GgufFile file = GgufFile.open(model); LlamaWeights kept = LlamaWeights.load(file, null);
        LlamaWeights wide = LlamaWeights.load(file, DType.F32)) {
      check.see(kept, wide);
    }
  }

  private static List<Weight> matrices(LlamaWeights weights) {
    List<Weight> all = new ArrayList<>(List.of(weights.embedding(), weights.head()));
    weights.layers().forEach(layer -> all.addAll(layer.matrices()));
    return all;
  }

  private static void assertSameValues(LlamaWeights kept, LlamaWeights wide) {
    List<Weight> expected = matrices(wide);
    List<Weight> found = matrices(kept);
    assertEquals(expected.size(), found.size());
    for (int i = 0; i < found.size(); i++) {
      assertArrayEquals(
          expected.get(i).tensor().toFloatArray(), found.get(i).toFloatArray(), "matrix " + i);
    }
  }

  private static double worst(LlamaWeights weights, DoubleDecoder exact, int... ids) {
    double worst = 0;
    try (Decoder decoder = new Decoder(weights, DecoderOptions.FULL.withLogits(), 1, TOKENS)) {
      for (int t = 0; t < ids.length; t++) {
        if (t == 0) {
          decoder.prefill(0, ids[0]);
        } else {
          decoder.step(ids[t]);
        }
        float[] found = decoder.logits().row(0).toFloatArray();
        double[] expected = exact.logits(t, t + 1)[0];
        for (int v = 0; v < found.length; v++) {
          worst = Math.max(worst, Math.abs(expected[v] - found[v]));
        }
      }
    }
    return worst;
  }

  /** Nothing is copied, no number is another one, and the logits are those of the wide weights. */
  @Test
  void blocksStayInPlace() throws IOException {
    for (Path model : List.of(TinyModel.writeBlocks(folder.resolve("tiny.gguf")),
             TinyGemma.write(folder.resolve("gemma.gguf")))) {
      both(model, (kept, wide) -> {
        boolean gemma = kept.config().isGemma();
        List<Weight> matrices = matrices(kept);
        assertTrue(matrices.stream().filter(m -> m.tensor().isReadOnly()).count()
            > (gemma ? .7 : .99) * matrices.size()); // some of Gemma's blocks are mixed with F32
        assertTrue(matrices.stream().map(Weight::blocks).distinct().count() > 4);
        assertTrue(kept.outputNorm().isReadOnly());
        assertTrue(kept.bytesPerToken() < wide.bytesPerToken() / 2);
        assertSameValues(kept, wide);
        int[] ids = new Random(1).ints(TOKENS, 0, kept.config().vocabulary()).toArray();
        double found = worst(kept, new DoubleDecoder(wide, ids), ids);
        assertTrue(found < 0.02, "largest error of a logit: " + found);
        assertNotEquals(0, found);
      });
    }
  }

  /** Inputs of 8 bits change what a prompt leaves, a little, and no row of a pass or a step. */
  @Test
  void promptsMayBeRoundedToEightBits() throws IOException {
    DecoderOptions plain = DecoderOptions.FULL.withLogits();
    both(TinyModel.writeBlocks(folder.resolve("tiny.gguf")), (kept, wide) -> {
      int[] ids = new Random(3).ints(TOKENS, 0, 24).toArray();
      int prompt = TOKENS / 2;
      List<float[]> prompted = new ArrayList<>();
      List<float[]> passed = new ArrayList<>();
      List<float[]> stepped = new ArrayList<>();
      for (DecoderOptions options : List.of(plain, plain.withPromptInputs(InputRounding.INT8))) {
        try (Decoder decoder = new Decoder(kept, options, 1, TOKENS)) {
          decoder.prefill(0, Arrays.copyOf(ids, prompt));
          prompted.add(decoder.logits().toFloatArray());
          decoder.forget(0, prompt);
          decoder.beginPass();
          for (int t = 0; t < prompt; t++) {
            decoder.addRow(0, ids[t], t);
          }
          decoder.embedRows();
          decoder.runRows(0, TinyModel.LAYERS);
          passed.add(decoder.readRows().head().logits().toFloatArray());
          decoder.keepTokens(0, prompt, prompt);
          decoder.step(ids[prompt]);
          stepped.add(decoder.logits().toFloatArray());
        }
      }
      float most = 0;
      for (int v = 0; v < prompted.get(0).length; v++) {
        most = Math.max(most, Math.abs(prompted.get(0)[v] - prompted.get(1)[v]));
      }
      assertTrue(most > 1e-4 && most < 0.1, "largest difference of a logit: " + most);
      assertArrayEquals(passed.get(0), passed.get(1));
      assertArrayEquals(stepped.get(0), stepped.get(1));
      DecoderOptions rounded = plain.withPromptInputs(InputRounding.INT8);
      String message = assertThrows(
          IllegalArgumentException.class, () -> new Decoder(wide, rounded, 1, TOKENS).close())
                           .getMessage();
      assertTrue(message.contains("no matrix of the model's layers is quantised"), message);
      assertThrows(
          IllegalArgumentException.class, () -> DeviceDecoder.check(rounded, kept.config()));
    });
  }

  private Path mixed(Function<TinyModel.Weight, GgmlType> types) throws IOException {
    return TinyModel.writeWeights(
        folder.resolve("mixed.gguf"), TinyModel.metadata(), TinyModel.weights(), types);
  }

  /** Feed-forward blocks of elements and blocks become F32, all other matrices stay. */
  @Test
  void mixedFeedForwardBlocksBecomeWide() throws IOException {
    Path model = mixed(weight
        -> weight.name().endsWith("1.ffn_up.weight") ? GgmlType.F16
            : weight.rows() > 1 && weight.name().matches(".*(ffn|attn_q).*")
            ? GgmlType.Q8_0
            : GgmlType.F32);
    both(model, (kept, wide) -> {
      for (int l = 0; l < TinyModel.LAYERS; l++) {
        LlamaWeights.Layer layer = kept.layers().get(l);
        for (Weight weight : List.of(layer.gate(), layer.up(), layer.down())) {
          assertEquals(l == 1 ? DType.F32 : DType.U8, weight.tensor().dtype());
          assertEquals(l == 1, !weight.tensor().isReadOnly());
        }
        assertEquals(DType.U8, layer.query().tensor().dtype());
      }
      assertSameValues(kept, wide);
    });
  }

  /** What tokens owe is then computed layer by layer. */
  @Test
  void keysAndValuesMayBeMixed() throws IOException {
    Path model = mixed(weight
        -> weight.name().contains("attn_k.") ? GgmlType.Q8_0
            : weight.rows() > 1 && weight.name().contains("attn_v.")
            ? GgmlType.F16
            : GgmlType.F32);
    int[] ids = new Random(2).ints(TOKENS, 0, 24).toArray();
    IntUnaryOperator depths = position -> 1 + position % TinyModel.LAYERS;
    DecoderOptions leaving =
        DecoderOptions.FULL.withExit(ExitPolicy.fixed(depths), KvPolicy.PROPAGATE);
    both(model, (kept, wide) -> {
      try (Decoder one = new Decoder(kept, leaving, 1, TOKENS);
          Decoder other = new Decoder(wide, leaving, 1, TOKENS)) {
        for (Decoder decoder : List.of(one, other)) {
          decoder.prefill(0, ids[0]);
          for (int t = 1; t < TOKENS; t++) {
            decoder.step(ids[t]);
          }
        }
        for (int l = 0; l < TinyModel.LAYERS; l++) {
          assertArrayEquals(other.kv().cache(l).k().toFloatArray(),
              one.kv().cache(l).k().toFloatArray(), 0.02f, "layer " + l);
          assertArrayEquals(other.kv().cache(l).v().toFloatArray(),
              one.kv().cache(l).v().toFloatArray(), 0.02f, "layer " + l);
        }
      }
    });
  }

  /** Elements at addresses that no op takes are copied. */
  @Test
  void elementsAtOddAddressesAreCopied() throws IOException {
    Map<String, Object> metadata = TinyModel.metadata();
    metadata.put("general.alignment", 1);
    boolean odd = false;
    for (String name : List.of("a", "ab")) { // one of two lengths makes data begin at an odd byte
      metadata.put("general.name", name);
      Path model = TinyModel.writeWeights(folder.resolve(name), metadata, TinyModel.weights(),
          weight -> weight.rows() == 1 ? GgmlType.F32 : GgmlType.BF16, 1);
      both(model, (kept, wide) -> assertSameValues(kept, wide));
      try (GgufFile file = GgufFile.open(model);
          LlamaWeights kept = LlamaWeights.load(file, null)) {
        boolean copied = file.tensors().get("token_embd.weight").offset() % 2 != 0;
        assertEquals(copied, !kept.embedding().tensor().isReadOnly());
        odd |= copied;
      }
    }
    assertTrue(odd);
  }

  /** A file that is cut between looking at its header and mapping it. */
  @Test
  void aFileThatHasShrunkIsRefused() throws IOException {
    Path model = TinyModel.writeBlocks(folder.resolve("shrunk.gguf"));
    try (GgufFile file = GgufFile.open(model)) {
      try (RandomAccessFile cut = new RandomAccessFile(model.toFile(), "rw")) {
        cut.setLength(cut.length() - 1);
      }
      String message =
          assertThrows(ModelChangedException.class, () -> LlamaWeights.load(file, null))
              .getMessage();
      assertTrue(message.contains(" was cut from "), message);
    }
  }

  /** Another file in its place, as a download that replaces it, does not touch a mapping. */
  @Test
  void aFileMayBeReplaced() throws IOException {
    Path model = TinyModel.writeBlocks(folder.resolve("replaced.gguf"));
    both(model, (kept, wide) -> {
      Path other = Files.writeString(folder.resolve("other"), "no model");
      Files.move(other, model, StandardCopyOption.REPLACE_EXISTING);
      assertFalse(Files.size(model) > 8);
      assertSameValues(kept, wide);
    });
  }
}
