// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.stream.IntStream;
import org.exeunt.Normalizer;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * What was fitted for the exits of an encoder: for each layer a head that classifies, a gate that
 * knows from the state how likely the head is right (PALBERT's lambda, here taught by whether it
 * was), and gates that know from the head's statistics whether going on is worth its cost
 * (JEI-DNN). A few thousand numbers, which may be sent to other JVMs.
 */
public final class FittedExits implements Serializable {
  private static final long serialVersionUID = 1;

  private static final LinearFit.Setup GATE = new LinearFit.Setup(Normalizer.SOFTMAX, false);

  private static final int BATCH = 32;

  private final LinearFit.Setup setup;
  private final ArrayList<LinearFit.Line> heads = new ArrayList<>();
  private final ArrayList<LinearFit.Line> lambdas = new ArrayList<>();
  private final HashMap<Double, ArrayList<LinearFit.Line>> gates = new HashMap<>();

  private FittedExits(LinearFit.Setup setup) {
    this.setup = setup;
  }

  /** Heads by softmax, fitted to two thirds of these sentences, and gates, some to the rest. */
  public static FittedExits fit(EncoderWeights weights, Reviews reviews) {
    int longest = reviews.sentences().stream().mapToInt(tokens -> tokens.length).max().orElse(1);
    try (Encoder encoder = new Encoder(weights, BATCH, longest)) {
      LayerStates states = LayerStates.of(encoder, weights.layerCount(), reviews, done -> {});
      LayerStates train = states.part(0, 2 * reviews.size() / 3);
      FittedExits exits = heads(train, new LinearFit.Setup(Normalizer.SOFTMAX, false));
      exits.addGates(train, states.part(train.size(), reviews.size()));
      return exits;
    }
  }

  /** Only heads, fitted to the states after each layer. */
  public static FittedExits heads(LayerStates train, LinearFit.Setup setup) {
    FittedExits exits = new FittedExits(setup);
    exits.heads.addAll(train.byLayer()
            .parallelStream()
            .map(states -> LinearFit.fit(states, train.labels(), setup))
            .toList());
    return exits;
  }

  /**
   * Adds the gates.
   *
   * @param train what the heads were fitted to
   * @param tune what they were not; gates of a few numbers are fitted to this
   */
  public void addGates(LayerStates train, LayerStates tune) {
    List<Answers> known = answers(train);
    lambdas.addAll(IntStream.range(0, heads.size())
            .parallel()
            .mapToObj(l
                -> LinearFit.fit(train.byLayer().get(l), right(known.get(l), train.labels()), GATE))
            .toList());
    List<Answers> unseen = answers(tune);
    for (ExitPlan plan : ExitPlan.Kind.JEI.plans(heads.size())) {
      int[] best = best(unseen, tune.labels(), plan.setting());
      ArrayList<LinearFit.Line> lines = new ArrayList<>();
      for (int l = 0; l + 1 < heads.size(); l++) {
        int[] leaves = new int[best.length];
        for (int i = 0; i < leaves.length; i++) {
          leaves[i] = best[i] <= l ? 1 : 0;
        }
        lines.add(LinearFit.fit(unseen.get(l).features(), leaves, GATE));
      }
      gates.put(plan.setting(), lines);
    }
  }

  private static int[] right(Answers answers, int[] labels) {
    return IntStream.range(0, labels.length)
        .map(i -> answers.label()[i] == labels[i] ? 1 : 0)
        .toArray();
  }

  /** The first layer at which loss and cost together are least, of each sentence. */
  private static int[] best(List<Answers> answers, int[] labels, double cost) {
    int[] best = new int[labels.length];
    for (int i = 0; i < best.length; i++) {
      double least = Double.POSITIVE_INFINITY;
      for (int l = 0; l < answers.size(); l++) {
        double spent = answers.get(l).loss(i, labels[i]) + cost * (l + 1) / answers.size();
        if (spent < least) {
          least = spent;
          best[i] = l;
        }
      }
    }
    return best;
  }

  /** What a head says of each state. */
  record Answers(int[] label, float[][] features) {
    double loss(int row, int truth) {
      double p = features[row][0];
      return -Math.log(Math.max(label[row] == truth ? p : 1 - p, 1e-12));
    }
  }

  private List<Answers> answers(LayerStates states) {
    List<Answers> answers = new ArrayList<>();
    try (Scope scope = Scope.open()) {
      Tensor pooled = states.allocate(scope);
      HeadStatistics statistics = new HeadStatistics(scope, this, pooled);
      for (int l = 0; l < heads.size(); l++) {
        states.load(l, pooled);
        statistics.run(l);
        answers.add(new Answers(
            statistics.out().argmax().toIntArray(), statistics.features(states.size())));
      }
    }
    return answers;
  }

  /** The share of right answers after each layer. */
  public double[] accuracies(LayerStates states) {
    return answers(states)
        .stream()
        .mapToDouble(answers -> states.accuracy(answers.label()))
        .toArray();
  }

  public LinearFit.Setup setup() {
    return setup;
  }

  /** Layers of the encoder. */
  public int layers() {
    return heads.size();
  }

  LinearFit.Line head(int layer) {
    return heads.get(layer);
  }

  LinearFit.Line lambda(int layer) {
    return lambdas.get(layer);
  }

  /** The gate of a layer but the last that was taught with this cost. */
  LinearFit.Line gate(int layer, double cost) {
    return gates.get(cost).get(layer);
  }
}
