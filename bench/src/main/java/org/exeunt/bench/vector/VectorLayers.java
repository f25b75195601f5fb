// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.bench.Contender;
import org.exeunt.bench.LayerContenders;
import org.exeunt.bench.Peers;
import org.exeunt.bench.reference.AttentionProblem;
import org.exeunt.bench.reference.FfnProblem;
import org.exeunt.bench.reference.FfnResult;
import org.exeunt.bench.reference.KvCopyProblem;
import org.exeunt.bench.reference.KvPropagateProblem;
import org.exeunt.bench.reference.LinearProblem;
import org.exeunt.bench.reference.NormProblem;
import org.exeunt.bench.reference.RopeProblem;
import org.exeunt.bench.reference.RowCompactionProblem;

/** The ops of a transformer layer with the Vector API; projections deliver f32. */
abstract class VectorLayers implements LayerContenders {
  @Override
  public Contender<float[]> norm(NormProblem problem, int threads) {
    return new VectorNorm(problem, threads);
  }

  @Override
  public Contender<float[]> rope(RopeProblem problem, int threads) {
    throw new UnsupportedOperationException("the Vector API peer has no rotary embedding");
  }

  @Override
  public Contender<float[]> linear(LinearProblem problem, int threads) {
    return new VectorLinear(problem, threads);
  }

  @Override
  public Contender<FfnResult> ffn(FfnProblem problem, int threads) {
    Peers.requirePlain(problem);
    return new VectorFfn(problem, threads);
  }

  @Override
  public Contender<float[]> kvPropagate(KvPropagateProblem problem, int threads) {
    return new VectorKvPropagate(problem, threads);
  }

  @Override
  public Contender<float[]> attention(AttentionProblem problem, int threads) {
    Peers.requireDecode(problem);
    return new VectorAttention(problem, threads);
  }

  @Override
  public Contender<float[]> kvCopy(KvCopyProblem problem, int threads) {
    return new JavaMoves(problem);
  }

  @Override
  public Contender<float[]> rowCompaction(RowCompactionProblem problem, int threads) {
    return new JavaMoves(problem);
  }
}
