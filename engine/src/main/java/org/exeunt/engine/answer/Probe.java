// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.answer;

import java.util.Arrays;
import org.exeunt.engine.model.text.Tokenizer;
import org.exeunt.engine.policy.Arguments;

/**
 * A question that is put to a model after an answer that is not complete, to see how sure it is.
 * With words to look for, the probability that one of them follows is how sure (ConCISE's detector);
 * without, the model answers, and the geometric mean of its tokens' probabilities is.
 *
 * @param confidentAt from here on the answer is over, above 0 up to 1
 * @param abstainBelow below this there is no answer, 0 up to {@code confidentAt}
 * @param every tokens from one time to the next, 1 or more
 * @param trial the most tokens of its answer, 1 or more, where there are no words
 * @param question what is put after the answer
 * @param words tokens that say that it is complete; none: it answers
 */
public record Probe(
    float confidentAt, float abstainBelow, int every, int trial, int[] question, int[] words) {
  /** What {@code --stop} may be for one answer, as a help page has it. */
  public static final String FORMS = "probe:P[,EVERY] or trial:P[,EVERY[,LENGTH]]";

  private static final int USUAL_EVERY = 16;
  private static final int USUAL_TRIAL = 8;
  private static final int MOST = 1 << 20;
  private static final String USUAL_QUESTION = "\nIs the answer complete? Yes or no:";
  private static final String USUAL_WORDS = " Yes| yes|Yes|yes";
  private static final String USUAL_TRIAL_QUESTION = "\nThe final answer is";

  /** Whether {@code --stop} asks for one. */
  public static boolean isAskedFor(String stop) {
    return stop.startsWith("probe:") || stop.startsWith("trial:");
  }

  /**
   * Reads an option that asks for one.
   *
   * @param stop what {@code --stop} is
   * @param text the question, null: the usual one
   * @param words to look for with probe, | between them; null: the usual ones
   * @param tokenizer null: only what needs none is looked at
   */
  public static Probe parse(
      String stop, float abstainBelow, String text, String words, Tokenizer tokenizer) {
    boolean answers = stop.startsWith("trial:");
    Arguments numbers = new Arguments("--stop " + stop.substring(0, 5), stop.substring(6), 1,
        answers ? 3 : 2, "a probability, and may have how often it is asked for");
    float confident = numbers.number(0, "the probability", 0, 1);
    if (confident == 0 || abstainBelow > confident) {
      throw new IllegalArgumentException("--stop is '" + stop + "', but the probability must be "
          + (confident == 0 ? "above 0" : "at least the " + abstainBelow + " of --abstain"));
    }
    if (answers && words != null) {
      throw new IllegalArgumentException(
          "--probe-words is '" + words + "', but --stop " + stop + " looks for none");
    }
    int every = numbers.count() < 2 ? USUAL_EVERY : numbers.integer(1, "EVERY", 1, MOST);
    int trial = numbers.count() < 3 ? USUAL_TRIAL : numbers.integer(2, "LENGTH", 1, MOST);
    if (tokenizer == null) {
      return null;
    }
    String question = text != null ? text : answers ? USUAL_TRIAL_QUESTION : USUAL_QUESTION;
    int[] asked = tokenizer.encode(question);
    int[] sought = answers ? new int[0] : firsts(words == null ? USUAL_WORDS : words, tokenizer);
    if (asked.length == 0 || !answers && sought.length == 0) {
      throw new IllegalArgumentException((asked.length == 0 ? "--probe" : "--probe-words") + " is '"
          + (asked.length == 0 ? question : words) + "', which is no token");
    }
    return new Probe(confident, abstainBelow, every, answers ? trial : 0, asked, sought);
  }

  private static int[] firsts(String words, Tokenizer tokenizer) {
    return Arrays.stream(words.split("\\|"))
        .map(tokenizer::encode)
        .filter(ids -> ids.length > 0)
        .mapToInt(ids -> ids[0])
        .distinct()
        .toArray();
  }

  /** The room it takes after an answer. */
  public int room() {
    return question.length + trial;
  }
}
