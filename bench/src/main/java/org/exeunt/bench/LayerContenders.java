// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.reference.AttentionProblem;
import org.exeunt.bench.reference.FfnProblem;
import org.exeunt.bench.reference.FfnResult;
import org.exeunt.bench.reference.KvCopyProblem;
import org.exeunt.bench.reference.KvPropagateProblem;
import org.exeunt.bench.reference.LinearProblem;
import org.exeunt.bench.reference.NormProblem;
import org.exeunt.bench.reference.RopeProblem;
import org.exeunt.bench.reference.RowCompactionProblem;

/** The ops of a transformer layer, as {@link Contenders} offers them. */
public interface LayerContenders {
  Contender<float[]> norm(NormProblem problem, int threads);

  Contender<float[]> rope(RopeProblem problem, int threads);

  Contender<float[]> linear(LinearProblem problem, int threads);

  Contender<FfnResult> ffn(FfnProblem problem, int threads);

  Contender<float[]> kvPropagate(KvPropagateProblem problem, int threads);

  Contender<float[]> attention(AttentionProblem problem, int threads);

  Contender<float[]> kvCopy(KvCopyProblem problem, int threads);

  Contender<float[]> rowCompaction(RowCompactionProblem problem, int threads);
}
