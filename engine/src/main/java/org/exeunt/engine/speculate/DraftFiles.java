// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate;

import java.io.IOException;
import java.io.PrintStream;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.text.Tokenizer;

/** The files that drafting needs, read, or made where they are not there. */
public final class DraftFiles {
  private DraftFiles() {}

  /**
   * Reads the files that drafting needs, or makes those that are not there.
   *
   * @param speculation null: nothing is drafted
   * @param drafting a second model, where one drafts
   * @param text to begin with, where something is fitted
   * @param log where it is said that something is; null: nowhere
   * @return the same with what they hold
   * @throws IOException if a file can be neither read nor written, or holds something else
   */
  public static Speculation ready(Speculation speculation, LlamaWeights weights,
      DraftModel drafting, Tokenizer tokenizer, String text, PrintStream log) throws IOException {
    Speculation found = speculation;
    if (found != null && found.translatorFile() != null) {
      found = found.withTranslators(Translators.readOrMake(
          found.translatorFile(), weights, tokenizer, text, log, found.draftDepths()));
    }
    if (found != null && found.acceptanceFile() != null) {
      found = found.withAcceptance(AcceptanceHead.readOrMake(
          found, weights, drafting == null ? null : drafting.weights(), tokenizer, text, log));
    }
    return found;
  }
}
