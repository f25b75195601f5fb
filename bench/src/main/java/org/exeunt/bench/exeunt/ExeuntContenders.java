// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.exeunt;

import org.exeunt.Cosine;
import org.exeunt.CrossEntropy;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitHead;
import org.exeunt.ExitRule;
import org.exeunt.Gate;
import org.exeunt.PerpGrad;
import org.exeunt.RowStats;
import org.exeunt.Scope;
import org.exeunt.StableMax;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.reference.CosineProblem;
import org.exeunt.bench.reference.CrossEntropyProblem;
import org.exeunt.bench.reference.ExitHeadProblem;
import org.exeunt.bench.reference.ExitRuleProblem;
import org.exeunt.bench.reference.GateProblem;
import org.exeunt.bench.reference.LossAndGrad;
import org.exeunt.bench.reference.Normalizer;
import org.exeunt.bench.reference.PerpGradProblem;
import org.exeunt.bench.reference.RowStatsProblem;
import org.exeunt.bench.reference.SoftmaxProblem;

/** The library under test, through its Java API; all memory comes from a {@link Scope}. */
public final class ExeuntContenders extends ExeuntSteps {
  private static final Statistic[] FOUR = {
      Statistic.ARGMAX, Statistic.P1, Statistic.MARGIN, Statistic.ENTROPY};

  /** On the same operands at each run. */
  public ExeuntContenders() {
    this(1);
  }

  /** On the next of so many copies of the large operands at each run. */
  public ExeuntContenders(int copies) {
    super(copies);
    offer("stablemax", this::softmax);
    offer("cross_entropy", this::crossEntropy);
    offer("row_stats", this::rowStats);
    offer("exit_head", this::exitHead);
    offer("cosine", this::cosine);
    offer("perp_grad", this::perpGrad);
    offer("gate", this::gate);
    offer("exit_rule", this::exitRule);
  }

  private Contender<float[]> softmax(SoftmaxProblem problem, int threads) {
    Scope scope = open(threads);
    Tensor out = like(scope, problem.logits);
    StableMax op =
        StableMax.forward()
            .logits(tensor(scope, problem.logits))
            .out(out)
            .normalizer(normalizer(problem.normalizer))
            .build(scope);
    return new OpContender<>(scope, op, out::toFloatArray);
  }

  private Contender<LossAndGrad> crossEntropy(CrossEntropyProblem problem, int threads) {
    Scope scope = open(threads);
    Tensor labels = scope.allocate(DType.I64, problem.labels.length);
    for (int r = 0; r < problem.labels.length; r++) {
      labels.longBuffer().put(r, problem.labels[r]);
    }
    Tensor loss = scope.allocate(DType.F32, 1);
    Tensor grad = like(scope, problem.logits);
    CrossEntropy op =
        CrossEntropy.builder()
            .logits(tensor(scope, problem.logits))
            .labels(labels)
            .loss(loss)
            .grad(grad)
            .normalizer(normalizer(problem.normalizer))
            .build(scope);
    return new OpContender<>(
        scope, op, () -> new LossAndGrad(loss.toFloatArray()[0], grad.toFloatArray()));
  }

  private Contender<org.exeunt.bench.reference.RowStats> rowStats(
      RowStatsProblem problem, int threads) {
    Scope scope = open(threads);
    Statistics out = statistics(scope, problem.logits.rows(), problem.all);
    Copies logits = new Copies(scope, copies, problem.logits);
    Turns turns = turns(copy
        -> RowStats.builder()
            .logits(logits.tensor(copy, 0))
            .normalizer(normalizer(problem.normalizer))
            .out(out)
            .build(scope));
    return new StatsContender(scope, turns, out, problem.logits.rows(), problem.all);
  }

  private Contender<org.exeunt.bench.reference.RowStats> exitHead(
      ExitHeadProblem problem, int threads) {
    Scope scope = open(threads);
    int rows = problem.hidden.rows();
    Statistics out = statistics(scope, rows, problem.all);
    Tensor hidden = tensor(scope, problem.hidden);
    Tensor norm = problem.normWeight == null ? null : vector(scope, problem.normWeight);
    Tensor shortlist = problem.shortlist == null ? null : ints(scope, problem.shortlist);
    Copies weight = new Copies(scope, copies, problem.weight);
    Turns turns = turns(copy -> {
      ExitHead.Builder builder =
          ExitHead.builder().hidden(hidden).weight(weight.tensor(copy, 0)).out(out);
      if (norm != null) {
        builder.rmsNorm(norm, problem.normEps);
      }
      if (shortlist != null) {
        builder.shortlist(shortlist);
      }
      return builder.build(scope);
    });
    return new StatsContender(scope, turns, out, rows, problem.all);
  }

  private Contender<float[]> cosine(CosineProblem problem, int threads) {
    Scope scope = open(threads);
    Tensor out = scope.allocate(DType.F32, problem.a.rows());
    Copies states = new Copies(scope, copies, problem.a, problem.b);
    Turns turns = turns(copy
        -> Cosine.builder()
            .a(states.tensor(copy, 0))
            .b(states.tensor(copy, 1))
            .out(out)
            .build(scope));
    return new OpContender<>(scope, turns, out::toFloatArray);
  }

  private Contender<float[]> perpGrad(PerpGradProblem problem, int threads) {
    Scope scope = open(threads);
    Tensor out = like(scope, problem.grad);
    PerpGrad op =
        PerpGrad.builder()
            .weight(tensor(scope, problem.weight))
            .grad(tensor(scope, problem.grad))
            .out(out)
            .build(scope);
    return new OpContender<>(scope, op, out::toFloatArray);
  }

  private Contender<float[]> gate(GateProblem problem, int threads) {
    Scope scope = open(threads);
    Tensor prob = scope.allocate(DType.F32, problem.features.rows());
    Gate.Builder builder =
        Gate.builder()
            .features(tensor(scope, problem.features))
            .output(tensor(scope, problem.outWeight), vector(scope, problem.outBias))
            .prob(prob);
    if (problem.repeats > 0) {
      builder.residual(tensor(scope, problem.hiddenWeight),
          problem.hiddenBias == null ? null : vector(scope, problem.hiddenBias), problem.repeats);
    }
    return new OpContender<>(scope, builder.build(scope), prob::toFloatArray);
  }

  private Contender<int[]> exitRule(ExitRuleProblem problem, int threads) {
    return new RuleContender(open(threads), problem);
  }

  private static Statistics statistics(Scope scope, int rows, boolean all) {
    return all ? Statistics.allocate(scope, rows) : Statistics.allocate(scope, rows, FOUR);
  }

  private static org.exeunt.Normalizer normalizer(Normalizer normalizer) {
    return normalizer == Normalizer.SOFTMAX
        ? org.exeunt.Normalizer.SOFTMAX
        : org.exeunt.Normalizer.STABLEMAX;
  }

  /** One token: a run of the rule after each layer, on that layer's scores. */
  private static final class RuleContender implements Contender<int[]> {
    private final Scope scope;
    private final ExitRule[] rules;
    private final Tensor exitLayer;

    RuleContender(Scope scope, ExitRuleProblem problem) {
      this.scope = scope;
      int rows = problem.rows();
      Tensor scores = tensor(scope, problem.scores);
      Tensor state = ExitRule.allocateState(scope, Device.CPU, rows);
      Tensor mask = scope.allocate(DType.U8, rows);
      Tensor active = scope.allocate(DType.I32, rows);
      Tensor count = scope.allocate(DType.I32, 1);
      exitLayer = scope.allocate(DType.I32, rows);
      rules = new ExitRule[problem.layers()];
      for (int layer = 0; layer < rules.length; layer++) {
        ExitRule.Builder builder =
            ExitRule.builder()
                .score(scores.row(layer))
                .state(state)
                .exitMask(mask)
                .activeList(active)
                .activeCount(count)
                .exitLayer(exitLayer);
        rules[layer] = (problem.rule == ExitRuleProblem.Rule.THRESHOLD
                ? builder.threshold(ExitRule.Comparator.GE, problem.threshold)
                : builder.quantile(problem.threshold))
                           .build(scope);
      }
    }

    @Override
    public Object run() {
      for (int layer = 0; layer < rules.length; layer++) {
        rules[layer].run(Stream.DEFAULT, layer, layer == 0, false);
      }
      return exitLayer;
    }

    @Override
    public int[] result() {
      return exitLayer.toIntArray();
    }

    @Override
    public void close() {
      scope.close();
    }
  }
}
