// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import java.nio.FloatBuffer;

/**
 * A model's own first layers, with its final norm and head (LayerSkip; Elhoushi et al. 2024). What
 * drafted tokens left those layers with is kept, so that verification runs the other layers alone;
 * only the last drafted token, which drafting does not take in, runs all of them.
 */
final class SelfDraft implements DraftSource {
  private final Decoder decoder;
  private final int layers;
  private final int width;
  private final int rowsOfSequence;
  private final float[] states; // of each sequence's newest token and its draft, after `layers`
  private final boolean[] drafting;

  SelfDraft(Decoder decoder, int layers, int length) {
    this.decoder = decoder;
    this.layers = layers;
    width = decoder.weights().config().width();
    rowsOfSequence = length + 1;
    states = new float[decoder.sequences() * rowsOfSequence * width];
    drafting = new boolean[decoder.sequences()];
  }

  /** What a drafted token costs, of a token at full depth. */
  static double cost(LlamaWeights weights, int layers) {
    long bytes = weights.head().bytes();
    for (LlamaWeights.Layer layer : weights.layers().subList(0, layers)) {
      bytes += layer.attentionBytes() + layer.feedForwardBytes();
    }
    return (double) bytes / weights.bytesPerToken();
  }

  @Override
  public void draft(Drafts drafts) {
    int going = 0;
    for (int s = 0; s < drafts.sequences(); s++) {
      drafting[s] = drafts.going(s) && drafts.plan(s, 0, Integer.MAX_VALUE) > 0;
      going += drafting[s] ? 1 : 0;
    }
    while (going > 0) {
      run(drafts, drafting);
      RowHead head = decoder.readDraftedRows();
      int row = 0;
      for (int s = 0; s < drafts.sequences(); s++) {
        if (drafting[s]) {
          // Of what is no number, any token is a guess: verification sees that, too.
          drafting[s] = drafts.add(s, Math.max(0, head.argmax(row)), head.probability(row));
          going -= drafting[s] ? 0 : 1;
          row++;
        }
      }
    }
  }

  /** Takes the last token of each of these sequences through the first layers. */
  private void run(Drafts drafts, boolean[] which) {
    decoder.beginPass();
    for (int s = 0; s < which.length; s++) {
      if (which[s]) {
        decoder.addRow(s, drafts.row(s, drafts.count(s)), drafts.count(s));
      }
    }
    decoder.embedRows();
    decoder.runRows(0, layers);
    FloatBuffer hidden = decoder.rows().allHidden().floatBuffer();
    int row = 0;
    for (int s = 0; s < which.length; s++) {
      if (which[s]) {
        hidden.get(row++ * width, states, at(s, drafts.count(s)), width);
      }
    }
  }

  private int at(int sequence, int index) {
    return (sequence * rowsOfSequence + index) * width;
  }

  @Override
  public int enter(Decoder verifying, Drafts drafts) {
    for (int s = 0; s < drafting.length; s++) {
      drafting[s] = drafts.going(s);
    }
    run(drafts, drafting);
    DraftSource.addRows(decoder, drafts);
    FloatBuffer hidden = decoder.rows().allHidden().floatBuffer();
    for (int s = 0; s < drafting.length; s++) {
      if (drafting[s]) {
        hidden.put(states, at(s, 0), (drafts.count(s) + 1) * width);
      }
    }
    return layers;
  }
}
