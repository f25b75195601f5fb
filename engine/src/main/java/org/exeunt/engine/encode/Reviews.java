// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import java.io.IOException;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.stream.IntStream;
import org.exeunt.engine.model.io.ModelFile;
import org.exeunt.engine.model.io.ModelFormatException;
import org.exeunt.engine.model.text.WordPiece;

/**
 * Rated sentences as tokens, and whether their mean rating is above 0; those with 0 are left out,
 * and those that came before. Hutto & Gilbert 2014, "VADER", in whose package they are.
 *
 * @param texts the sentences
 * @param sentences the tokens of each
 * @param labels 1: the people who rated it found it positive, 0: negative
 */
public record Reviews(List<String> texts, List<int[]> sentences, int[] labels) {
  private static final long MOST_BYTES = 64 << 20;
  private static final long SEED = 20;

  /**
   * Reads lines of a number, a mean rating and a sentence with tabs between them.
   *
   * @param longest tokens that are kept of a sentence
   */
  public static Reviews read(Path path, WordPiece tokenizer, int longest) throws IOException {
    Rated rated = rated(path);
    return rated.tokens(rated.inOrder(), tokenizer, longest);
  }

  /**
   * The first {@code most} of them as {@link #shuffled()} has them; no others become tokens.
   *
   * @param longest tokens that are kept of a sentence
   * @param most sentences that are wanted; there may be fewer
   */
  public static Reviews readShuffled(Path path, WordPiece tokenizer, int longest, int most)
      throws IOException {
    Rated rated = rated(path);
    List<Integer> order = shuffled(rated.inOrder());
    return rated.tokens(order.subList(0, Math.min(most, order.size())), tokenizer, longest);
  }

  /** What the file says. */
  private record Rated(List<String> texts, List<Integer> labels) {
    List<Integer> inOrder() {
      return IntStream.range(0, texts.size()).boxed().toList();
    }

    Reviews tokens(List<Integer> which, WordPiece tokenizer, int longest) {
      return new Reviews(which.stream().map(texts::get).toList(),
          which.stream().map(i -> tokenizer.encode(texts.get(i), longest)).toList(),
          which.stream().mapToInt(labels::get).toArray());
    }
  }

  private static Rated rated(Path path) throws IOException {
    String text;
    try (ModelFile file = ModelFile.open(path)) {
      if (file.size() > MOST_BYTES) {
        throw new ModelFormatException(path,
            "has " + file.size() + " bytes, above the " + MOST_BYTES + " this reader accepts.");
      }
      CharBuffer chars = StandardCharsets.UTF_8.newDecoder().decode(file.read(0, file.size()));
      text = chars.toString();
    } catch (CharacterCodingException e) {
      throw new ModelFormatException(path, "is not UTF-8.");
    }
    List<String> texts = new ArrayList<>();
    List<Integer> labels = new ArrayList<>();
    Set<String> known = new HashSet<>();
    int number = 0;
    for (String line : text.split("\r?\n")) {
      number++;
      String[] fields = line.split("\t");
      if (fields.length != 3 || !fields[1].matches("-?[0-9]{1,2}([.][0-9]{1,20})?")) {
        throw new ModelFormatException(path,
            "line " + number + " is not a number, a rating and a sentence with tabs between them.");
      }
      double rating = Double.parseDouble(fields[1]);
      if (rating != 0 && known.add(fields[2])) {
        texts.add(fields[2]);
        labels.add(rating > 0 ? 1 : 0);
      }
    }
    return new Rated(texts, labels);
  }

  public int size() {
    return labels.length;
  }

  /** The same in an order that is always the same, and has nothing to do with that of the file. */
  public Reviews shuffled() {
    List<Integer> order = shuffled(IntStream.range(0, size()).boxed().toList());
    return new Reviews(order.stream().map(texts::get).toList(),
        order.stream().map(sentences::get).toList(),
        order.stream().mapToInt(i -> labels[i]).toArray());
  }

  private static List<Integer> shuffled(List<Integer> numbers) {
    List<Integer> order = new ArrayList<>(numbers);
    Collections.shuffle(order, new Random(SEED));
    return order;
  }

  /** Those from {@code from} up to {@code to}. */
  public Reviews part(int from, int to) {
    return new Reviews(
        texts.subList(from, to), sentences.subList(from, to), Arrays.copyOfRange(labels, from, to));
  }
}
