// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Linear;
import org.exeunt.Norm;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.TranslatorFit.Translator;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.Head;
import org.exeunt.engine.decode.RowHead;

/**
 * The heads of a model's first layers, each after the translator of its depth, and of some tokens
 * alone where there is a shortlist.
 */
public final class DraftHeads {
  private final Scope scope;
  private final Decoder decoder;
  private final Tensor[] weight; // by place; null: no translators
  private final Tensor[] bias;
  private final Tensor ones;
  private final Shortlist shortlist; // null: all tokens
  private final Map<Integer, RowHead> heads = new HashMap<>(); // by place and rows

  /**
   * @param translators by depth; null: the head sees states as they are
   * @param shortlist how many tokens are looked at; 0: all
   * @param depths of each place
   */
  public DraftHeads(Scope scope, Decoder decoder, Map<Integer, Translator> translators,
      int shortlist, int... depths) {
    this.scope = scope;
    this.decoder = decoder;
    this.shortlist = shortlist == 0
        ? null
        : new Shortlist(
              scope, decoder.sequences(), decoder.weights().config().vocabulary(), shortlist);
    if (translators == null) {
      weight = null;
      bias = null;
      ones = null;
      return;
    }
    int width = decoder.weights().config().width();
    weight = new Tensor[depths.length];
    bias = new Tensor[depths.length];
    for (int i = 0; i < depths.length; i++) {
      Translator translator = translators.get(depths[i]);
      weight[i] = scope.allocate(Device.CPU, DType.BF16, width, width);
      weight[i].copyFrom(translator.weight());
      bias[i] = scope.allocate(Device.CPU, DType.F32, width).copyFrom(translator.bias());
    }
    float[] one = new float[width];
    Arrays.fill(one, 1);
    ones = scope.allocate(Device.CPU, DType.F32, width).copyFrom(one);
  }

  /** A sequence begins anew. */
  void restart(int sequence) {
    if (shortlist != null) {
      shortlist.restart(sequence);
    }
  }

  /** Drafts are about to be looked for after these texts. */
  void begin(Drafts drafts) {
    if (shortlist != null) {
      shortlist.read(drafts);
    }
  }

  /** What the head finds for the decoder's rows, which have come to a place. */
  RowHead read(int place) {
    if (weight == null && shortlist == null) {
      return decoder.readDraftedRows();
    }
    int count = decoder.rows().count();
    RowHead head = heads.computeIfAbsent(place * (decoder.mostRows() + 1) + count,
        key
        -> new RowHead(head(decoder.rows().hidden(count), weight == null ? null : weight[place],
            bias == null ? null : bias[place])));
    decoder.work().run(head.head(), count);
    return head;
  }

  private Head head(Tensor hidden, Tensor translator, Tensor translatorBias) {
    return new Head(scope, decoder.weights(), hidden, translator, translatorBias,
        shortlist == null ? null : shortlist.tokens());
  }

  /** A head of states that {@link #translate} has translated. */
  RowHead ofTranslated(Tensor hidden) {
    return new RowHead(head(hidden, null, null));
  }

  /**
   * Translates rows of several places in place.
   *
   * @param first row of each place, and the row after the last place
   */
  public void translate(Tensor states, int... first) {
    if (weight == null) {
      return;
    }
    int places = first.length - 1;
    try (Scope own = Scope.open()) {
      Tensor normed = own.allocate(Device.CPU, DType.F32, first[places], states.size(1));
      Norm.builder()
          .input(states.rows(0, first[places]))
          .rms(ones, decoder.weights().config().epsilon())
          .out(normed)
          .runOnce();
      for (int place = 0; place < places; place++) {
        Linear.builder()
            .input(normed.rows(first[place], first[place + 1]))
            .weight(weight[place])
            .bias(bias[place])
            .out(states.rows(first[place], first[place + 1]))
            .runOnce();
      }
    }
  }
}
