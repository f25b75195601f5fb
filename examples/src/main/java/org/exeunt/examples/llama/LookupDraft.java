// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

/**
 * Prompt lookup: what followed the last few tokens where they occurred before. Looks for the last
 * {@code most} of them first, then for one less, and takes the latest earlier occurrence; where the
 * text runs out there, the draft goes on with itself.
 */
final class LookupDraft implements DraftSource {
  /** Longer matches are as good as these. */
  static final int LONGEST = 16;

  private final int most;

  LookupDraft(int most) {
    this.most = most;
  }

  @Override
  public void draft(Drafts drafts) {
    for (int s = 0; s < drafts.sequences(); s++) {
      if (drafts.going(s)) {
        draft(drafts, s);
      }
    }
  }

  @Override
  public int kind(Drafts drafts, int sequence) {
    TokenList text = drafts.context(sequence);
    int next = find(text);
    return next < 0 ? -1 : matched(text, next, LONGEST);
  }

  private void draft(Drafts drafts, int s) {
    TokenList text = drafts.context(s);
    int next = find(text);
    if (next < 0) {
      return;
    }
    int kind = matched(text, next, LONGEST);
    boolean more = drafts.plan(s, kind, Integer.MAX_VALUE) > 0;
    if (!more) {
      drafts.guess(s, kind, text.get(next));
    }
    int period = text.size() - next;
    for (int i = 0; more; i++) {
      more = drafts.add(s, i < period ? text.get(next + i) : drafts.token(s, i - period), 1);
    }
  }

  /** Where the text goes on behind the latest match; -1 if there is none. */
  private int find(TokenList text) {
    int found = -1;
    int longest = 0;
    for (int at = text.size() - 1; at > 0 && longest < most; at--) {
      int length = matched(text, at, most);
      if (length > longest) {
        longest = length;
        found = at;
      }
    }
    return found;
  }

  /** How many tokens before {@code at} are the text's last ones, of up to {@code atMost}. */
  private static int matched(TokenList text, int at, int atMost) {
    int length = 0;
    while (length < atMost && length < at
        && text.get(at - 1 - length) == text.get(text.size() - 1 - length)) {
      length++;
    }
    return length;
  }
}
