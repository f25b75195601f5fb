// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate;

import java.io.IOException;
import org.exeunt.DType;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.text.Tokenizer;

/** A second model, which drafts for one with the same tokens. */
public final class DraftModel implements AutoCloseable {
  private final GgufFile file;
  private final LlamaWeights weights;

  private DraftModel(GgufFile file, DType type, Tokenizer tokenizer) throws IOException {
    this.file = file;
    int other = new Tokenizer(file).firstOther(tokenizer);
    if (other >= 0) {
      throw new IllegalArgumentException("--speculate model: " + file.path()
          + " has another vocabulary, from token " + other + " on: it cannot draft for this model");
    }
    weights = LlamaWeights.load(file, type);
  }

  /**
   * Opens the model that is to draft; null if none is.
   *
   * @param speculation null: nothing is drafted
   * @param type what its weights become, as for {@link LlamaWeights#load}
   * @param tokenizer of the model that verifies
   * @throws IllegalArgumentException if the two vocabularies differ
   */
  public static DraftModel of(Speculation speculation, DType type, Tokenizer tokenizer)
      throws IOException {
    if (speculation == null || speculation.model() == null) {
      return null;
    }
    GgufFile file = GgufFile.open(speculation.model());
    try {
      return new DraftModel(file, type, tokenizer);
    } catch (IOException | RuntimeException | Error e) {
      file.close();
      throw e;
    }
  }

  public LlamaWeights weights() {
    return weights;
  }

  @Override
  public void close() throws IOException {
    weights.close();
    file.close();
  }
}
