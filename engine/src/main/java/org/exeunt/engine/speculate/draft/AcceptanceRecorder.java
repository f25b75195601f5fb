// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.exeunt.Scope;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.RowHead;
import org.exeunt.engine.train.AcceptanceFit;

/**
 * Drafts of a fixed length for one sequence, and which of their tokens were right. States are
 * those of the rows that took tokens in, so that the last of a draft is not looked at.
 */
public final class AcceptanceRecorder implements DraftScore, DraftPolicy {
  /** How many tokens each draft has. */
  public static final int DRAFT = 6;

  private static final int REPEATS = 3; // as in SpecDec++

  private final int width;
  private final AcceptanceFit fit;
  private final Scope scope = Scope.open();
  private final List<float[]> states = new ArrayList<>(); // of the newest token and its draft
  private NormedStates normed;
  private float[] rows;

  public AcceptanceRecorder(int width) {
    this.width = width;
    fit = new AcceptanceFit(width, REPEATS);
  }

  public AcceptanceFit fit() {
    return fit;
  }

  @Override
  public void read(Decoder decoder, RowHead found) {
    if (normed == null) {
      normed = new NormedStates(scope, decoder);
    }
    rows = normed.read(decoder).toFloatArray();
  }

  @Override
  public float of(int row) {
    states.add(Arrays.copyOfRange(rows, row * width, (row + 1) * width));
    return Float.NaN;
  }

  @Override
  public int most(int kind) {
    states.clear();
    return DRAFT;
  }

  /** Those after a wrong token are no matter: a rule wants to know about the first. */
  @Override
  public void learn(int kind, int drafted, int accepted) {
    for (int i = 1; i < drafted && i <= accepted + 1; i++) {
      float[] state = states.get(i);
      if (allFinite(state)) {
        fit.add(state, i <= accepted ? 1 : 0);
      }
    }
  }

  private static boolean allFinite(float... values) {
    for (float value : values) {
      if (!Float.isFinite(value)) {
        return false;
      }
    }
    return true;
  }

  @Override
  public void close() {
    scope.close();
  }
}
