// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import org.exeunt.FfnSkipFit;
import org.exeunt.engine.layer.LayerObserver;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.policy.FfnSkip;

/** Measures on a text what {@link FfnSkip} needs to know of a model. */
public final class FfnCalibration {
  private final FfnSkipFit fit;

  private FfnCalibration(FfnSkipFit fit) {
    this.fit = fit;
  }

  /** Runs {@code ids}, at least one, in full and looks on. */
  public static FfnCalibration of(LlamaWeights weights, int... ids) {
    FfnSkipFit fit = new FfnSkipFit(weights.config().layers());
    LayerObserver measure = (depth, rows) -> {
      if (depth > 0) {
        fit.add(depth - 1, rows.cosine().toFloatArray());
      }
    };
    try (Decoder decoder =
             new Decoder(weights, DecoderOptions.FULL.withObserver(measure), 1, ids.length)) {
      decoder.prefill(0, ids);
    }
    return new FfnCalibration(fit);
  }

  /** Mean cosine of each layer's block. */
  public double meanCosine(int layer) {
    return fit.meanCosine(layer);
  }

  /**
   * Proposes settings under which a token that begins to skip at once passes {@code share} of all
   * blocks.
   *
   * @param share of the blocks, above 0 and below 1
   * @param warmUp tokens that run in full
   */
  public FfnSkip propose(double share, int warmUp) {
    FfnSkipFit.Settings found = fit.propose(share);
    return new FfnSkip(found.coldStart(), found.coldEnd(), warmUp, found.threshold(), -1);
  }
}
