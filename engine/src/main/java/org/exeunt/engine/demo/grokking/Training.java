// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.grokking;

import java.util.ArrayList;
import java.util.List;
import org.exeunt.CrossEntropy;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Normalizer;
import org.exeunt.PerpGrad;
import org.exeunt.PruneApply;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.engine.train.AdamW;
import org.exeunt.engine.train.Matrix;

/**
 * Full-batch training on modular addition with exeunt's cross-entropy and perpGrad kernels; the
 * setting of Prieto et al. 2025, "Grokking at the Edge of Numerical Stability", with its optimiser
 * flags (AdamW, betas .9 and .99, epsilon 1e-25, no weight decay).
 */
public final class Training implements AutoCloseable {
  private static final int MODULUS = 113;
  private static final int HIDDEN = 200;
  private static final long SEED = 42;

  private final Setup setup;
  private final Scope scope = Scope.open();
  private final ModularAddition.Split data;
  private final Mlp mlp;
  private final Mlp.Batch train;
  private final Mlp.Batch test;
  private final AdamW optimizer;
  private final Tensor loss = scope.allocate(Device.CPU, DType.F32, 1);
  private final CrossEntropy crossEntropy;
  private final List<PerpGrad> perpGrads = new ArrayList<>();
  private PruneApply pruneGradients; // null: nothing is pruned
  private int epoch;

  /**
   * What a model knows.
   *
   * @param epoch epochs trained
   * @param loss mean cross-entropy over the training pairs
   * @param trainAccuracy share of training pairs answered correctly
   * @param testAccuracy share of unseen pairs answered correctly
   * @param collapsed share of training pairs in softmax collapse, see {@link Training#evaluate()}
   */
  public record
      Snapshot(int epoch, float loss, double trainAccuracy, double testAccuracy, double collapsed) {
  }

  /**
   * What one run does differently from another.
   *
   * @param normalizer the cross-entropy's
   * @param perpGrad whether gradients lose their part along the weights
   * @param trainShare share of all pairs that is trained on
   * @param rate AdamW's learning rate
   */
  public record Setup(Normalizer normalizer, boolean perpGrad, double trainShare, float rate) {}

  /** Sets up an untrained model, whose weights are the same for every {@code setup}. */
  public Training(Setup setup) {
    this(setup, MODULUS, HIDDEN, SEED);
  }

  /** The same mod {@code modulus}, of that width, with weights of another seed. */
  Training(Setup setup, int modulus, int hidden, long weightSeed) {
    this.setup = setup;
    mlp = new Mlp(modulus, hidden, weightSeed);
    data = ModularAddition.split(modulus, setup.trainShare(), SEED);
    train = mlp.new Batch(data.train());
    test = mlp.new Batch(data.test());
    optimizer = new AdamW(mlp.weights(), setup.rate(), .9f, .99f, 1e-25f);
    Tensor labels =
        scope.allocate(Device.CPU, DType.I32, data.train().size()).copyFrom(data.train().labels());
    crossEntropy =
        CrossEntropy.builder()
            .logits(train.logits().tensor())
            .labels(labels)
            .normalizer(setup.normalizer())
            .loss(loss)
            .grad(train.gradLogits().tensor())
            .build(scope);
    for (int i = 0; setup.perpGrad() && i < mlp.weights().size(); i++) {
      Tensor gradient = train.gradients().get(i).tensor();
      perpGrads.add(PerpGrad.builder()
              .weight(mlp.weights().get(i).tensor())
              .grad(gradient)
              .out(gradient)
              .build(scope));
    }
  }

  /** As they are now: one matrix for each layer. */
  List<Matrix> weights() {
    return mlp.weights();
  }

  /** From here on weights are 0 where these masks are, one for each layer. */
  void prune(List<Tensor> masks) {
    PruneApply.Builder weights = PruneApply.builder();
    PruneApply.Builder gradients = PruneApply.builder();
    for (int i = 0; i < masks.size(); i++) {
      weights.tensor(masks.get(i), mlp.weights().get(i).tensor());
      gradients.tensor(masks.get(i), train.gradients().get(i).tensor());
    }
    weights.runOnce();
    // AdamW moves no weight that never had a gradient.
    pruneGradients = gradients.build(scope);
  }

  /** Trains for {@code epochs} epochs. */
  public void run(int epochs) {
    for (int i = 0; i < epochs; i++) {
      train.forward();
      crossEntropy.run();
      train.backward();
      if (pruneGradients != null) {
        pruneGradients.run(); // before perpGrad, which restores the norm of what is left
      }
      perpGrads.forEach(PerpGrad::run);
      optimizer.step(train.gradients());
      epoch++;
    }
  }

  /**
   * Measures the model as it is now.
   *
   * <p>A pair is in collapse when, in f32, the largest logit's term of the normaliser's sum
   * swallows all the others: the probability is exactly 1, and a correct answer then has loss 0 and
   * teaches nothing.
   */
  public Snapshot evaluate() {
    train.forward();
    crossEntropy.run();
    test.forward();
    return new Snapshot(epoch, loss.toFloatArray()[0],
        accuracy(train.logits(), data.train().labels()),
        accuracy(test.logits(), data.test().labels()), collapsed(train.logits()));
  }

  private static double accuracy(Matrix logits, int[] labels) {
    float[] row = new float[logits.columns()];
    int right = 0;
    for (int i = 0; i < labels.length; i++) {
      logits.getRow(i, row);
      int best = 0;
      for (int j = 1; j < row.length; j++) {
        best = row[j] > row[best] ? j : best;
      }
      right += best == labels[i] ? 1 : 0;
    }
    return (double) right / labels.length;
  }

  private double collapsed(Matrix logits) {
    float[] row = new float[logits.columns()];
    int collapsed = 0;
    for (int i = 0; i < logits.rows(); i++) {
      logits.getRow(i, row);
      float max = Float.NEGATIVE_INFINITY;
      for (float z : row) {
        max = Math.max(max, z);
      }
      float sum = 0;
      for (float z : row) {
        sum += setup.normalizer() == Normalizer.SOFTMAX
            ? (float) Math.exp(z - max)
            : stable(z) / stable(max);
      }
      collapsed += sum == 1 ? 1 : 0;
    }
    return (double) collapsed / logits.rows();
  }

  private static float stable(float z) {
    return z >= 0 ? z + 1 : 1 / (1 - z);
  }

  @Override
  public void close() {
    scope.close();
  }
}
