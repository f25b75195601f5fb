// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import org.exeunt.bench.exeunt.ExeuntContenders;
import org.exeunt.bench.onnx.OnnxContenders;
import org.exeunt.bench.reference.CosineProblem;
import org.exeunt.bench.reference.CrossEntropyProblem;
import org.exeunt.bench.reference.ExitHeadProblem;
import org.exeunt.bench.reference.ExitRuleProblem;
import org.exeunt.bench.reference.GateProblem;
import org.exeunt.bench.reference.LossAndGrad;
import org.exeunt.bench.reference.PerpGradProblem;
import org.exeunt.bench.reference.RowStats;
import org.exeunt.bench.reference.RowStatsProblem;
import org.exeunt.bench.reference.SoftmaxProblem;
import org.exeunt.bench.vector.VectorContenders;

/** A library, or a way of writing it in Java, that offers the ops of this suite. */
public interface Contenders extends LayerContenders, DropContenders, StepContenders {
  /** Whether this contender has something to time for a case. */
  boolean offers(BenchCase benchCase);

  Contender<float[]> softmax(SoftmaxProblem problem, int threads);

  Contender<LossAndGrad> crossEntropy(CrossEntropyProblem problem, int threads);

  Contender<RowStats> rowStats(RowStatsProblem problem, int threads);

  Contender<RowStats> exitHead(ExitHeadProblem problem, int threads);

  Contender<float[]> cosine(CosineProblem problem, int threads);

  Contender<float[]> perpGrad(PerpGradProblem problem, int threads);

  Contender<float[]> gate(GateProblem problem, int threads);

  Contender<int[]> exitRule(ExitRuleProblem problem, int threads);

  /** The contender that is called {@code name} on the command line and in results. */
  static Contenders of(String name) {
    return of(name, 1);
  }

  /** As {@link #of(String)}; each run takes the next of so many copies of the large operands. */
  static Contenders of(String name, int copies) {
    if (copies > 1 && !name.equals(Plan.OURS)) {
      throw new IllegalArgumentException(name + " always runs on the same operands");
    }
    switch (name) {
      case Plan.OURS:
        return new ExeuntContenders(copies);
      case "onnxruntime":
        return new OnnxContenders();
      case Plan.JAVA:
        return new VectorContenders();
      default:
        throw new IllegalArgumentException("no contender is called " + name);
    }
  }
}
