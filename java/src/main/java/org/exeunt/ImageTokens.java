// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/** The part of a prompt that may be dropped: what {@link FastV} and {@link PyramidDrop} share. */
record ImageTokens(int begin, int end, int tokens) {
  ImageTokens {
    if (begin < 0 || end < begin || end > tokens) {
      throw new IllegalArgumentException(
          "the image is tokens " + begin + " to " + end + ", but the prompt has " + tokens);
    }
  }

  int size() {
    return end - begin;
  }

  /** The last token's softmax, mean over heads: the best of the image, and all that is no image. */
  Selection choose(Scope scope, Stream stream, PromptLayer prompt, int keep) {
    return prompt.choose(scope, stream, AttentionScores.fastV(), 1, AttentionScores.Heads.MEAN,
        tokens, Math.min(keep, size()), 0, begin, end, tokens);
  }
}
