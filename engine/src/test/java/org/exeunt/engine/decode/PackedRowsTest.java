// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import org.exeunt.Backend;
import org.exeunt.BlockFormat;
import org.exeunt.InputRounding;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.TinyModel;
import org.exeunt.engine.model.Weight;
import org.exeunt.engine.model.gguf.GgmlType;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.ModelChangedException;
import org.exeunt.engine.policy.ExitPolicy;
import org.exeunt.engine.policy.KvPolicy;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Rows that were packed and kept, beside those in place. */
class PackedRowsTest {
  private static final int WIDTH = 768; // more than the 512 elements that are rearranged together
  private static final int TOKENS = 12;
  private static final boolean REARRANGED = Set.of("vnni", "avx512", "amx").contains(Backend.isa());

  @TempDir Path folder;
  private Path model;
  private Path place;
  private final ByteArrayOutputStream log = new ByteArrayOutputStream();
  private final PrintStream out = new PrintStream(log, true, UTF_8);

  @BeforeEach
  void writeModel() throws IOException {
    model = write("model.gguf", GgmlType.values());
    place = folder.resolve("cache").resolve("model.packed");
  }

  /** A model of two layers, whose matrices are of all formats of blocks in turn. */
  private Path write(String name, GgmlType... types) throws IOException {
    Map<String, Object> metadata = TinyModel.metadata();
    metadata.put("llama.embedding_length", WIDTH);
    metadata.put("llama.rope.dimension_count", WIDTH / 4);
    metadata.put("llama.block_count", 2);
    metadata.put("llama.feed_forward_length", WIDTH);
    int scale = WIDTH / 32;
    List<TinyModel.Weight> weights = new ArrayList<>();
    for (TinyModel.Weight w : TinyModel.weights()) {
      boolean layer = w.name().startsWith("blk.");
      if (!layer || w.name().matches("blk\\.[01]\\..*")) {
        int rows = w.rows() == 1 || !layer ? w.rows() : Math.min(WIDTH, scale * w.rows());
        int columns = Math.min(WIDTH, scale * w.columns());
        float[] values = new float[rows * columns];
        Arrays.fill(values, 1); // of norms; blocks have their own
        weights.add(new TinyModel.Weight(w.name(), rows, columns, values));
      }
    }
    List<GgmlType> blocks = Stream.of(types).filter(type -> type.blocks() != null).toList();
    int[] next = {0};
    return TinyModel.writeWeights(folder.resolve(name), metadata, weights,
        w -> w.rows() == 1 ? GgmlType.F32 : blocks.get(next[0]++ % blocks.size()));
  }

  private interface Check {
    void see(LlamaWeights weights) throws IOException;
  }

  private void opened(Path kept, Check check) throws IOException {
    try (GgufFile file = GgufFile.open(model);
        LlamaWeights weights = LlamaWeights.load(file, null, kept, out)) {
      check.see(weights);
    }
  }

  private String said() {
    String said = log.toString(UTF_8);
    log.reset();
    return said;
  }

  private static List<Weight> matrices(LlamaWeights weights) {
    List<Weight> all = new ArrayList<>();
    weights.layers().forEach(layer -> all.addAll(layer.matrices()));
    return all;
  }

  private static boolean isPacked(Weight weight) {
    return weight.blocks().name().startsWith("PACKED_");
  }

  /** All logits of a prompt and an answer. */
  private static List<float[]> logits(LlamaWeights weights, DecoderOptions options) {
    List<float[]> all = new ArrayList<>();
    try (Decoder decoder = new Decoder(weights, options.withLogits(), 1, 5 + TOKENS)) {
      decoder.prefill(0, 1, 2, 3, 4, 5);
      for (int t = 0; t < TOKENS; t++) {
        all.add(decoder.logits().row(0).toFloatArray());
        decoder.step(decoder.argmax(0));
      }
    }
    return all;
  }

  private void assertSameBits(Path kept, DecoderOptions options) throws IOException {
    List<float[]> expected = new ArrayList<>();
    opened(null, weights -> expected.addAll(logits(weights, options)));
    opened(kept, weights -> {
      List<float[]> found = logits(weights, options);
      for (int t = 0; t < TOKENS; t++) {
        assertArrayEquals(expected.get(t), found.get(t), "token " + t);
      }
    });
    assertTrue(Float.isFinite(expected.get(TOKENS - 1)[0]));
  }

  @Test
  void logitsHaveTheBitsOfRowsInPlace() throws IOException {
    DecoderOptions leaving = DecoderOptions.FULL.withExit(
        ExitPolicy.fixed(position -> 1 + position % 2), KvPolicy.PROPAGATE);
    DecoderOptions rounded = DecoderOptions.FULL.withPromptInputs(InputRounding.INT8);
    for (DecoderOptions options : List.of(DecoderOptions.FULL, leaving, rounded)) {
      assertSameBits(place, options);
    }
    model = write("alike.gguf", GgmlType.Q4_1); // whose projections lie together
    assertSameBits(folder.resolve("alike.packed"), DecoderOptions.FULL);
  }

  @Test
  void isMadeOnceOfWhatGains() throws IOException {
    opened(place, weights -> {
      for (Weight weight : matrices(weights)) {
        assertEquals(REARRANGED && weight.blocks() != BlockFormat.Q8_0, isPacked(weight));
        assertTrue(weight.tensor().isReadOnly());
      }
      assertEquals(REARRANGED, matrices(weights).stream().anyMatch(PackedRowsTest::isPacked));
      assertFalse(isPacked(weights.embedding()));
    });
    assertEquals(REARRANGED, Files.exists(place));
    if (!REARRANGED) {
      assertEquals("the weights are read in place: packed they would not be faster\n", said());
      return;
    }
    assertEquals("packing the weights, once for this model\n", said());
    FileTime date = Files.getLastModifiedTime(place);
    opened(place,
        weights
        -> assertTrue(
            isPacked(weights.layers().get(0).query()) || isPacked(weights.layers().get(0).key())));
    assertEquals("", said());
    assertEquals(date, Files.getLastModifiedTime(place));
    try (Stream<Path> beside = Files.list(place.getParent())) {
      assertEquals(List.of(place), beside.toList());
    }
  }

  @Test
  void isMadeAgainWhateverIsWrongWithIt() throws IOException {
    assumeTrue(REARRANGED);
    opened(place, weights -> {});
    byte[] first = Files.readAllBytes(place);
    said();
    Map<String, UnaryOperator<byte[]>> damages = new LinkedHashMap<>();
    damages.put("is damaged: the checksum of 'blk.1.", whole -> {
      whole[whole.length - 1] ^= 1;
      return whole;
    });
    damages.put("does not begin as packed weights", whole -> {
      whole[0] ^= 1;
      return whole;
    });
    damages.put("was made of another 'blk.0.", whole -> {
      whole[24] ^= 1;
      return whole;
    });
    damages.put("is damaged: the checksum of 'blk.0.", whole -> {
      whole[28] ^= 1;
      return whole;
    });
    damages.put("not the " + first.length, whole -> Arrays.copyOf(whole, whole.length - 1));
    damages.put("has 0 bytes", whole -> new byte[0]);
    damages.put("has another order", this::unpacked);
    for (Map.Entry<String, UnaryOperator<byte[]>> damage : damages.entrySet()) {
      Files.write(place, damage.getValue().apply(first.clone()));
      opened(place, weights -> {});
      String why = said();
      assertTrue(why.startsWith("packing the weights anew: " + place), why);
      assertTrue(why.contains(damage.getKey()), why);
      assertArrayEquals(first, Files.readAllBytes(place), damage.getKey());
    }
  }

  /** With the rows of the first matrix as the model has them, and the checksum of these. */
  private byte[] unpacked(byte[] whole) {
    try (GgufFile file = GgufFile.open(model)) {
      String name = matricesOf(file).get(0);
      ByteBuffer rows = ByteBuffer.allocate((int) file.tensors().get(name).bytes());
      file.read(file.tensors().get(name), rows);
      System.arraycopy(whole, 24, whole, 28, 4);
      int begin = (24 + 8 * matricesOf(file).size() + 63) / 64 * 64;
      System.arraycopy(rows.array(), 0, whole, begin, rows.capacity());
      return whole;
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  private static List<String> matricesOf(GgufFile file) {
    List<String> names = new ArrayList<>();
    for (int l = 0; l < 2; l++) {
      for (String part :
          List.of("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")) {
        String name = "blk." + l + "." + part + ".weight";
        if (file.tensors().get(name).type() != GgmlType.Q8_0) {
          names.add(name);
        }
      }
    }
    return names;
  }

  @Test
  void aModelExchangedForOneOfEqualSizeAndDateIsPackedAnew() throws IOException {
    assumeTrue(REARRANGED);
    opened(place, weights -> {});
    said();
    FileTime date = Files.getLastModifiedTime(model);
    try (GgufFile file = GgufFile.open(model);
        FileChannel channel = FileChannel.open(model, StandardOpenOption.WRITE)) {
      String last = matricesOf(file).get(matricesOf(file).size() - 1);
      long end = file.tensors().get(last).offset() + file.tensors().get(last).bytes();
      channel.write(ByteBuffer.wrap(new byte[] {1, 2, 3}), end - 32); // quants, of any format
    }
    Files.setLastModifiedTime(model, date);
    assertSameBits(place, DecoderOptions.FULL);
    String why = said();
    assertTrue(why.contains("was made of another 'blk.1."), why);
    assertSameBits(place, DecoderOptions.FULL);
    assertEquals("", said());
  }

  @Test
  void whatCannotBeKeptIsReadInPlace() throws IOException {
    assumeTrue(REARRANGED);
    Path file = Files.writeString(folder.resolve("file"), "no folder");
    Path nowhere = file.resolve("model.packed");
    assertSameBits(nowhere, DecoderOptions.FULL);
    assertTrue(said().contains("the weights are read in place, as packed ones cannot be kept: "));
    opened(nowhere,
        weights -> assertTrue(matrices(weights).stream().noneMatch(PackedRowsTest::isPacked)));
  }

  @Test
  void aFileThatIsCutIsNoticed() throws IOException {
    assumeTrue(REARRANGED);
    opened(place, weights -> {
      try (FileChannel channel = FileChannel.open(place, StandardOpenOption.WRITE)) {
        channel.truncate(4096);
      }
      String message =
          assertThrows(ModelChangedException.class, weights::requireUnchanged).getMessage();
      assertTrue(message.startsWith(place + " changed from "), message);
    });
  }
}
