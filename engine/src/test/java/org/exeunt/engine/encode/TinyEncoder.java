// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.exeunt.engine.model.onnx.OnnxBuilder;

/** An encoder of random weights with a vocabulary of a few words, and sentences of them. */
public final class TinyEncoder {
  static final int LAYERS = 3;
  static final int WIDTH = 24;
  static final int HEADS = 3;
  static final int FEED_FORWARD = 40;
  static final int POSITIONS = 128;
  public static final List<String> PIECES = List.of("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good",
      "bad", "film", "the", "##ly", "##s", "un", "##film", ".", ",", "'", "a", "e", "\u4e2d", "so",
      "not");

  private TinyEncoder() {}

  static OnnxBuilder model() {
    return OnnxBuilder.bert(LAYERS, WIDTH, HEADS, FEED_FORWARD, PIECES.size(), POSITIONS);
  }

  public static String tokenizer() {
    String vocabulary =
        IntStream.range(0, PIECES.size())
            .mapToObj(i -> '"' + PIECES.get(i) + "\":" + i)
            .collect(Collectors.joining(","));
    return "{\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":true},"
        + "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
        + "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":12,"
        + "\"vocab\":{" + vocabulary + "}}}";
  }

  /** Sentences of which those with more good than bad are rated above 0. */
  static String reviews(int count) {
    Random random = new Random(3);
    List<String> words = List.of("good", "bad", "film", "the", "so", "not", "films", "a");
    StringBuilder text = new StringBuilder();
    for (int i = 1; i <= count; i++) {
      int good = 0;
      StringBuilder sentence = new StringBuilder();
      for (int w = 3 + random.nextInt(12); w > 0; w--) {
        int word = random.nextInt(words.size());
        good += word == 0 ? 1 : word == 1 ? -1 : 0;
        sentence.append(' ').append(words.get(word));
      }
      text.append(i)
          .append('\t')
          .append(good * .4)
          .append('\t')
          .append(sentence.substring(1))
          .append("\r\n");
    }
    return text.toString();
  }

  /** Writes the three files where the demo looks for them. */
  public static EncoderFiles write(Path folder) throws IOException {
    EncoderFiles files = new EncoderFiles(folder);
    Files.write(files.model(), model().toBytes());
    Files.writeString(files.tokenizer(), tokenizer());
    Files.writeString(files.reviews(), reviews(400));
    return files;
  }
}
