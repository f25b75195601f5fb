// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.vector.lanes.VectorPeer;
import org.exeunt.cases.Facade;
import org.exeunt.jni.exn_token_bias_params;

/** Logits of a few tokens, in place: rows shared out among the workers. */
final class JavaTokenBias extends VectorPeer {
  private final exn_token_bias_params p;
  private final float[] logits;
  private final int rows;
  private final int cols;
  private final int[] ids;
  private final float scale;
  private final float add;

  JavaTokenBias(Problem problem, int threads) {
    super(threads);
    p = problem.params(exn_token_bias_params::new);
    Matrix z = Matrix.of(p.logits());
    if (z.halves() != null || p.mask() != null) {
      throw new UnsupportedOperationException("the Java peer changes all rows of f32");
    }
    logits = z.values();
    rows = z.rows();
    cols = z.cols();
    ids = Facade.tensor(p.ids()).toIntArray();
    scale = p.scale();
    add = p.add();
  }

  @Override
  public Object run() {
    workers.run(thread -> {
      for (int r = workers.begin(thread, rows); r < workers.begin(thread + 1, rows); r++) {
        for (int id : ids) {
          logits[r * cols + id] = logits[r * cols + id] * scale + add;
        }
      }
    });
    return logits;
  }

  @Override
  public void deliver() {
    Problem.put(p.logits(), logits);
  }
}
