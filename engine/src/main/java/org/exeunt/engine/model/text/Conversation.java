// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.text;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/**
 * The turns of a conversation, and which tokens of it are new to a model that has taken in the
 * others. A template writes all of it each time: where that begins with what is known already, only
 * the rest goes in; where a template writes older turns otherwise than before, all of it does.
 */
public final class Conversation {
  private static final int[] NOTHING = {};

  private final ChatTemplate template;
  private final Tokenizer tokenizer;
  private final List<ChatTemplate.Message> messages = new ArrayList<>();
  private String known = ""; // text that was taken in, or is in left
  private int[] left = NOTHING; // tokens that were said, but not taken in
  private String written = ""; // with what was said last

  /**
   * What a model is to take in next.
   *
   * @param ids the tokens
   * @param anew whether they are all there is
   * @param length tokens there are then
   */
  public record Turn(int[] ids, boolean anew, int length) {}

  public Conversation(ChatTemplate template, Tokenizer tokenizer) {
    this.template = template;
    this.tokenizer = tokenizer;
  }

  /** Says how the model is to behave, before anything else is said. */
  public void system(String text) {
    messages.add(new ChatTemplate.Message("system", text));
  }

  /**
   * The user says something.
   *
   * @param position tokens that the model has taken in
   */
  public Turn say(String text, int position) throws IOException {
    messages.add(new ChatTemplate.Message("user", text));
    written = template.render(messages);
    if (known.isEmpty() || !written.startsWith(known)) {
      int[] ids = tokenizer.encodeChat(written);
      return new Turn(ids, true, ids.length);
    }
    int[] more = tokenizer.encode(written.substring(known.length()));
    int[] ids = IntStream.concat(Arrays.stream(left), Arrays.stream(more)).toArray();
    return new Turn(ids, false, position + ids.length);
  }

  /** What the user has said last is taken back. */
  public void unsay() {
    messages.remove(messages.size() - 1);
  }

  /**
   * The model has answered.
   *
   * @param tokens of the answer that it has not taken in
   */
  public void answered(String text, int... tokens) {
    messages.add(new ChatTemplate.Message("assistant", text));
    known = written + text;
    left = tokens.clone();
  }
}
