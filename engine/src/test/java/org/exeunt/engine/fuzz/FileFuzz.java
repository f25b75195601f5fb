// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.fuzz;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicLong;
import org.exeunt.DType;
import org.exeunt.engine.encode.EncoderWeights;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.gguf.GgmlType;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.gguf.GgufTensor;
import org.exeunt.engine.model.io.ModelFormatException;
import org.exeunt.engine.model.io.SafetensorsFile;
import org.exeunt.engine.model.io.StrictJson;
import org.exeunt.engine.model.onnx.OnnxBuilder;
import org.exeunt.engine.model.text.ChatTemplate;
import org.exeunt.engine.model.text.Tokenizer;

/**
 * Hostile model files, each repeatable by a seed and its number: small sound ones with a fault or
 * three. A reader may take one, or say in a sentence what is wrong with which file; nothing else.
 * Run it with little memory: {@code --minutes N} (1), {@code --seed N} (1), {@code --from N},
 * {@code --cases N}. Exit status 1: something was found.
 */
public final class FileFuzz {
  /** What weights are loaded as; null: what they are. */
  private static final List<DType> FORMS = Arrays.asList(null, DType.F32, DType.BF16);

  private static final long HANGS_AFTER_MILLIS = 20_000;
  private static final int MOST_KINDS = 40;

  private final Path file;
  private final Map<String, Long> outcomes = new TreeMap<>();
  private final Draft llama = llama();
  private final Draft gemma = gemma();
  private final Draft zoo = zoo();
  private final byte[] onnx = OnnxBuilder.bert(1, 8, 2, 12, 6, 4).toBytes();

  private FileFuzz(Path file) {
    this.file = file;
  }

  public static void main(String[] args) throws IOException {
    Map<String, String> options = new HashMap<>();
    for (int i = 0; i < args.length; i += 2) {
      if (i + 1 == args.length
          || !(args[i] + " " + args[i + 1])
              .matches("--(minutes [0-9]{1,6}(\\.[0-9]+)?|(seed|from|cases) [0-9]{1,18})")) {
        System.err.println("usage: FileFuzz [--minutes N] [--seed N] [--from N] [--cases N]");
        System.exit(2);
      }
      options.put(args[i], args[i + 1]);
    }
    long seed = Long.parseLong(options.getOrDefault("--seed", "1"));
    long from = Long.parseLong(options.getOrDefault("--from", "0"));
    long cases = Long.parseLong(options.getOrDefault("--cases", "" + Integer.MAX_VALUE));
    double minutes = Double.parseDouble(options.getOrDefault("--minutes", "1"));
    Path memory = Path.of("/dev/shm"); // files there need no disk
    Path folder = Files.isWritable(memory)
        ? Files.createTempDirectory(memory, "exeunt-files")
        : Files.createTempDirectory("exeunt-files");
    Path file = folder.resolve("hostile.model");
    int kinds;
    try {
      kinds = new FileFuzz(file).run(seed, from, cases, (long) (minutes * 60e3));
    } finally {
      Files.deleteIfExists(file);
      Files.delete(folder);
    }
    System.exit(kinds == 0 ? 0 : 1);
  }

  private int run(long seed, long from, long cases, long millis) throws IOException {
    AtomicLong now = new AtomicLong(from);
    watch(now, seed);
    Map<String, Integer> kinds = new TreeMap<>();
    long end = System.currentTimeMillis() + millis;
    long number = from;
    for (; number < from + cases && System.currentTimeMillis() < end; number++) {
      now.set(number);
      Random random = new Random(seed * 0x9e3779b97f4a7c15L ^ number * 0xbf58476d1ce4e5b9L);
      String objection = objection(random);
      if (objection != null
          && kinds.merge(objection.replaceAll("-?\\d+", "#"), 1, Integer::sum) == 1) {
        System.out.println("FOUND " + objection + "\n    " + reproduction(seed, number));
        if (kinds.size() == MOST_KINDS) {
          break;
        }
      }
    }
    System.out.println("TOTAL " + (number - from) + " files of seed " + seed + ": " + outcomes);
    return kinds.size();
  }

  private static String reproduction(long seed, long number) {
    return "again with " + FileFuzz.class.getName() + " --seed " + seed + " --from " + number
        + " --cases 1";
  }

  private static void watch(AtomicLong now, long seed) {
    Thread main = Thread.currentThread();
    Thread watcher = new Thread(() -> {
      long before = -1;
      while (true) {
        try {
          Thread.sleep(HANGS_AFTER_MILLIS);
        } catch (InterruptedException e) {
          return;
        }
        if (now.get() == before) {
          System.out.println("FOUND a reader that does not end, in "
              + Arrays.toString(main.getStackTrace()) + "\n    " + reproduction(seed, before));
          Runtime.getRuntime().halt(3);
        }
        before = now.get();
      }
    });
    watcher.setDaemon(true);
    watcher.start();
  }

  /** A reader at work. */
  private interface Reader {
    void read() throws IOException;
  }

  /** What is wrong with what a reader made of one hostile file; null if nothing is. */
  private String objection(Random random) throws IOException {
    switch (random.nextInt(10)) {
      case 0: {
        String text = Texts.json(random);
        return judge("json", () -> StrictJson.parse(text), false);
      }
      case 1, 2:
        Files.write(file, Texts.safetensors(random));
        return judge("safetensors", this::safetensors, true);
      case 3, 4:
        Files.write(file, zoo.spoiled(random));
        return judge("gguf", this::gguf, true);
      case 5, 6:
        Files.write(file, spoiled(onnx, random));
        return judge("onnx", this::onnx, true);
      default:
        Files.write(file, (random.nextInt(3) == 0 ? gemma : llama).spoiled(random));
        return judge("model", () -> model(random), true);
    }
  }

  private String judge(String what, Reader reader, boolean ofFile) {
    try {
      reader.read();
      count(what + " taken");
      return null;
    } catch (ModelFormatException e) {
      count(what + " refused");
      String message = e.getMessage();
      String sentence = message.replace(file + ": ", "");
      return !ofFile || !message.startsWith(file + ": ") || sentence.length() < 10
              || sentence.length() > 700 || !sentence.matches("(?s).*[.)]")
              || sentence.matches("(?s).*\\p{Cntrl}.*")
          ? what + ": not one clean sentence: " + message
          : null;
    } catch (IllegalArgumentException e) {
      count(what + " refused");
      return ofFile || e.getClass() != IllegalArgumentException.class
              || !e.getMessage().contains(" at line ")
          ? what + ": " + e + place(e)
          : null;
    } catch (IOException e) {
      count(what + " unreadable");
      return e.getClass() == IOException.class && e.getMessage().startsWith(file + ": ")
          ? null
          : what + ": " + e + place(e);
    } catch (RuntimeException | Error e) {
      return what + ": " + e + place(e);
    }
  }

  private void count(String outcome) {
    outcomes.merge(outcome, 1L, Long::sum);
  }

  private static String place(Throwable thrown) {
    for (StackTraceElement element : thrown.getStackTrace()) {
      if (element.getClassName().startsWith("org.exeunt.")) {
        return " at " + element;
      }
    }
    return "";
  }

  // ---- readers ----------------------------------------------------------------------------------

  private void gguf() throws IOException {
    try (GgufFile gguf = GgufFile.open(file)) {
      BitSet used = new BitSet();
      for (GgufTensor tensor : gguf.tensors().values()) {
        use(used, tensor.offset(), tensor.bytes());
        gguf.readRows(tensor, (index, row) -> {});
      }
    }
  }

  private void model(Random random) throws IOException {
    try (GgufFile gguf = GgufFile.open(file)) {
      List<Reader> readers = new ArrayList<>(List.of(
          ()
              -> LlamaConfig.of(gguf),
          ()
              -> tokenize(new Tokenizer(gguf)),
          ()
              -> new ChatTemplate(gguf).render(List.of(new ChatTemplate.Message("user", "hi"))),
          () -> LlamaWeights.load(gguf, FORMS.get(random.nextInt(FORMS.size()))).close()));
      IOException refused = null;
      for (Reader reader : readers) {
        try {
          reader.read();
        } catch (ModelFormatException e) {
          refused = e;
        }
      }
      if (refused != null) {
        throw refused;
      }
    }
  }

  private void onnx() throws IOException {
    EncoderWeights.load(file, DType.BF16).close();
  }

  /** A sound file with a fault or three. */
  private static byte[] spoiled(byte[] sound, Random random) {
    byte[] bytes = sound.clone();
    for (int faults = 1 + random.nextInt(3); faults > 0 && bytes.length > 1; faults--) {
      int at = random.nextInt(bytes.length);
      int end = Math.min(bytes.length, at + 1 + random.nextInt(40));
      switch (random.nextInt(4)) {
        case 0 -> bytes[at] ^= (byte) (1 << random.nextInt(8));
        case 1 -> bytes[at] = (byte) random.nextInt();
        case 2 -> bytes = joined(bytes, at, bytes, end); // some are lost
        default -> bytes = joined(bytes, end, bytes, at); // some come twice
      }
    }
    return bytes;
  }

  private static byte[] joined(byte[] head, int to, byte[] tail, int from) {
    byte[] bytes = Arrays.copyOf(head, to + tail.length - from);
    System.arraycopy(tail, from, bytes, to, tail.length - from);
    return bytes;
  }

  private static void tokenize(Tokenizer tokenizer) {
    for (String text : List.of("", "ab ba 12 <end>", "a".repeat(3000), "\ud800\u00e9\u4e2d\n")) {
      int[] ids = tokenizer.encodePrompt(text);
      tokenizer.decode(ids);
    }
    if (tokenizer.size() > 0) {
      tokenizer.ends(tokenizer.size() - 1);
      tokenizer.decode(tokenizer.size() - 1, tokenizer.endOfSequence());
    }
  }

  private void safetensors() throws IOException {
    try (SafetensorsFile tensors = SafetensorsFile.open(file)) {
      BitSet used = new BitSet();
      for (SafetensorsFile.Tensor tensor : tensors.tensors().values()) {
        use(used, tensor.offset(), tensors.bytes(tensor.name()).remaining());
        switch (tensor.type()) {
          case F32, F16, BF16 -> tensors.floats(tensor.name());
          case F64 -> tensors.doubles(tensor.name());
          case I32 -> tensors.ints(tensor.name());
          default -> {
          }
        }
      }
    }
  }

  /** Tensors that overlap would make a small file ask for any amount of memory. */
  private static void use(BitSet used, long offset, long bytes) {
    int taken = used.nextSetBit((int) offset);
    if (bytes > 0 && taken >= 0 && taken < offset + bytes) {
      throw new IllegalStateException("a tensor at " + offset + " overlaps another at " + taken);
    }
    used.set((int) offset, (int) (offset + bytes));
  }

  // ---- sound files ------------------------------------------------------------------------------

  private record Entry(String name, GgmlType type, int rows, int columns) {
    int bytes() {
      return rows * columns / type.blockElements() * type.blockBytes();
    }
  }

  /** A model that loads: one layer, a vocabulary of six. */
  private static Draft llama() {
    List<Entry> entries = List.of(new Entry("token_embd.weight", GgmlType.F32, 6, 4),
        new Entry("output_norm.weight", GgmlType.F32, 1, 4),
        new Entry("output.weight", GgmlType.BF16, 6, 4),
        new Entry("blk.0.attn_norm.weight", GgmlType.F32, 1, 4),
        new Entry("blk.0.attn_q.weight", GgmlType.F16, 4, 4),
        new Entry("blk.0.attn_k.weight", GgmlType.F32, 2, 4),
        new Entry("blk.0.attn_v.weight", GgmlType.F32, 2, 4),
        new Entry("blk.0.attn_output.weight", GgmlType.F32, 4, 4),
        new Entry("blk.0.ffn_norm.weight", GgmlType.F32, 1, 4),
        new Entry("blk.0.ffn_gate.weight", GgmlType.F32, 32, 4),
        new Entry("blk.0.ffn_up.weight", GgmlType.F32, 32, 4),
        new Entry("blk.0.ffn_down.weight", GgmlType.Q8_0, 4, 32));
    Draft draft =
        new Draft()
            .raw("GGUF".getBytes(StandardCharsets.US_ASCII))
            .int32(3)
            .int64(entries.size())
            .int64(17);
    text(draft, "general.architecture", "llama");
    number(draft, "llama.embedding_length", 4);
    number(draft, "llama.attention.head_count", 2);
    number(draft, "llama.attention.head_count_kv", 1);
    number(draft, "llama.rope.dimension_count", 2);
    number(draft, "llama.block_count", 1);
    number(draft, "llama.feed_forward_length", 32);
    number(draft, "llama.context_length", 16);
    real(draft, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    real(draft, "llama.rope.freq_base", 1e4f);
    text(draft, "tokenizer.ggml.model", "gpt2");
    text(draft, "tokenizer.ggml.pre", "smollm");
    texts(draft, "tokenizer.ggml.tokens", "<end>", "a", "b", "ab", "ba", "\u0120");
    draft.chunk().string("tokenizer.ggml.token_type").int32(9).int32(5).int64(6);
    for (int type : new int[] {3, 1, 1, 1, 4, 1}) {
      draft.int32(type);
    }
    texts(draft, "tokenizer.ggml.merges", "a b", "b a");
    number(draft, "tokenizer.ggml.eos_token_id", 0);
    text(draft, "tokenizer.chat_template",
        "{% for m in messages %}{{ m['role']|trim + ':' + m.content }}{% endfor %}{{ bos_token }}");
    return tensors(draft, entries);
  }

  /** The same of Gemma 3, with a vocabulary of scores. */
  private static Draft gemma() {
    List<Entry> entries = new ArrayList<>(List.of(
        new Entry("token_embd.weight", GgmlType.Q5_1, 7, 32),
        new Entry("output_norm.weight", GgmlType.F32, 1, 32),
        new Entry("blk.0.attn_q.weight", GgmlType.Q5_0, 8, 32),
        new Entry("blk.0.attn_k.weight", GgmlType.Q8_0, 4, 32),
        new Entry("blk.0.attn_v.weight", GgmlType.Q4_0, 4, 32),
        new Entry("blk.0.attn_q_norm.weight", GgmlType.F32, 1, 4),
        new Entry("blk.0.attn_k_norm.weight", GgmlType.F32, 1, 4),
        new Entry("blk.0.attn_output.weight", GgmlType.F32, 32, 8),
        new Entry("blk.0.ffn_gate.weight", GgmlType.Q4_1, 256, 32),
        new Entry("blk.0.ffn_up.weight", GgmlType.Q5_0, 256, 32),
        new Entry("blk.0.ffn_down.weight", GgmlType.Q6_K, 32, 256)));
    for (String norm : List.of("attn", "post_attention", "ffn", "post_ffw")) {
      entries.add(new Entry("blk.0." + norm + "_norm.weight", GgmlType.F32, 1, 32));
    }
    Draft draft =
        new Draft()
            .raw("GGUF".getBytes(StandardCharsets.US_ASCII))
            .int32(3)
            .int64(entries.size())
            .int64(20);
    text(draft, "general.architecture", "gemma3");
    number(draft, "gemma3.embedding_length", 32);
    number(draft, "gemma3.attention.head_count", 2);
    number(draft, "gemma3.attention.head_count_kv", 1);
    number(draft, "gemma3.attention.key_length", 4);
    number(draft, "gemma3.attention.value_length", 4);
    number(draft, "gemma3.attention.sliding_window", 8);
    number(draft, "gemma3.attention.sliding_window_pattern", 2);
    number(draft, "gemma3.block_count", 1);
    number(draft, "gemma3.feed_forward_length", 256);
    number(draft, "gemma3.context_length", 16);
    real(draft, "gemma3.attention.layer_norm_rms_epsilon", 1e-5f);
    real(draft, "gemma3.rope.freq_base", 1e6f);
    text(draft, "tokenizer.ggml.model", "llama");
    texts(draft, "tokenizer.ggml.tokens", "<end>", "a", "b", "ab", "<0x0A>", "\u2581", "<0xC3>");
    draft.chunk().string("tokenizer.ggml.token_type").int32(9).int32(5).int64(7);
    for (int type : new int[] {3, 1, 1, 1, 6, 1, 6}) {
      draft.int32(type);
    }
    draft.chunk().string("tokenizer.ggml.scores").int32(9).int32(6).int64(7);
    for (int id = 0; id < 7; id++) {
      draft.int32(Float.floatToIntBits(-id));
    }
    number(draft, "tokenizer.ggml.eos_token_id", 0);
    number(draft, "tokenizer.ggml.bos_token_id", 0);
    text(draft, "tokenizer.chat_template", "{% if messages[1:] %}a{% endif %}<start_of_turn>");
    return tensors(draft, entries);
  }

  /** Every type of metadata and of tensors. */
  private static Draft zoo() {
    List<Entry> entries = new ArrayList<>();
    for (GgmlType type : GgmlType.values()) {
      entries.add(new Entry("of " + type, type, 3, 2 * type.blockElements()));
    }
    Draft draft =
        new Draft()
            .raw("GGUF".getBytes(StandardCharsets.US_ASCII))
            .int32(2)
            .int64(entries.size())
            .int64(27);
    for (int type = 0; type < 13; type++) {
      draft.chunk().string("one " + type).int32(type);
      if (type == 9) {
        draft.int32(8).int64(2).string("x").string("y");
      } else {
        value(draft, type);
      }
      draft.chunk().string("many " + type).int32(9).int32(type == 9 ? 0 : type).int64(3);
      for (int i = 0; i < 3; i++) {
        value(draft, type == 9 ? 0 : type);
      }
    }
    draft.chunk().string("general.alignment").int32(4).int32(64);
    return tensors(draft, entries);
  }

  private static void value(Draft draft, int type) {
    switch (type) {
      case 0, 1, 7 -> draft.int8(1);
      case 2, 3 -> draft.int16(1);
      case 4, 5, 6 -> draft.int32(1);
      case 8 -> draft.string("text");
      default -> draft.int64(1);
    }
  }

  private static void number(Draft draft, String key, int value) {
    draft.chunk().string(key).int32(4).int32(value);
  }

  private static void real(Draft draft, String key, float value) {
    draft.chunk().string(key).int32(6).int32(Float.floatToIntBits(value));
  }

  private static void text(Draft draft, String key, String value) {
    draft.chunk().string(key).int32(8).string(value);
  }

  private static void texts(Draft draft, String key, String... values) {
    draft.chunk().string(key).int32(9).int32(8).int64(values.length);
    for (String value : values) {
      draft.string(value);
    }
  }

  private static Draft tensors(Draft draft, List<Entry> entries) {
    long offset = 0;
    for (Entry entry : entries) {
      draft.chunk()
          .string(entry.name())
          .int32(2)
          .int64(entry.columns())
          .int64(entry.rows())
          .int32(entry.type().id())
          .int64(offset);
      offset += (entry.bytes() + 63) / 64 * 64;
    }
    draft.chunk().pad(64);
    for (Entry entry : entries) {
      ByteBuffer bytes = ByteBuffer.allocate((entry.bytes() + 63) / 64 * 64);
      draft.chunk().raw(bytes.array());
    }
    return draft;
  }

  /** Whether the sound files are taken, without which the hostile ones say nothing. */
  static void requireSound(Path folder) throws IOException {
    FileFuzz fuzz = new FileFuzz(folder.resolve("sound.model"));
    Files.write(fuzz.file, fuzz.zoo.toBytes());
    fuzz.gguf();
    for (Draft sound : List.of(fuzz.llama, fuzz.gemma)) {
      Files.write(fuzz.file, sound.toBytes());
      fuzz.model(new Random(1));
    }
    Files.write(fuzz.file, fuzz.onnx);
    fuzz.onnx();
    Files.write(fuzz.file, Texts.sound());
    fuzz.safetensors();
  }
}
