// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.noise;

import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.exeunt.CrossEntropy;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Elr;
import org.exeunt.Op;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.engine.train.AdamW;
import org.exeunt.engine.train.Matrix;

/**
 * Trains a small network on labels of which two in five are wrong, by exeunt's cross-entropy or by
 * its early-learning regularisation, in batches of 100.
 */
public final class NoisyTraining implements AutoCloseable {
  /** Share of the training labels that are wrong. */
  public static final double WRONG = .4;

  private static final int CLASSES = 10;
  private static final int WIDTH = 32;
  private static final int HIDDEN = 256;
  private static final int BATCH = 100;
  private static final float RATE = .003f;
  private static final long SEED = 42;

  private final Scope scope = Scope.open();
  private final NoisyClouds.Split data =
      NoisyClouds.split(CLASSES, WIDTH, .7, 1000, 2000, WRONG, SEED);
  private final Random random = new Random(SEED);
  private final Matrix first = uniform(HIDDEN, WIDTH);
  private final Matrix second = uniform(CLASSES, HIDDEN);
  private final Matrix gradFirst = new Matrix(HIDDEN, WIDTH);
  private final Matrix gradSecond = new Matrix(CLASSES, HIDDEN);
  private final AdamW optimizer = new AdamW(List.of(first, second), RATE, .9f, .99f, 1e-8f);
  private final Matrix points = new Matrix(BATCH, WIDTH);
  private final Layers batch = new Layers(points);
  private final Matrix gradLogits = new Matrix(BATCH, CLASSES);
  private final Matrix gradHidden = new Matrix(BATCH, HIDDEN);
  private final Tensor labels = scope.allocate(Device.CPU, DType.I32, BATCH);
  private final Tensor index = scope.allocate(Device.CPU, DType.I32, BATCH);
  private final int[] order = IntStream.range(0, data.train().size()).toArray();
  private final Op loss;
  private int epoch;

  /**
   * What a network knows.
   *
   * @param epoch epochs trained
   * @param given share of the training points answered as their labels say, right or wrong
   * @param memorised share of the wrong labels that it answers as they say
   * @param seenThrough share of the wrong labels' points that it answers rightly
   * @param test share of unseen points answered rightly
   */
  public record
      Snapshot(int epoch, double given, double memorised, double seenThrough, double test) {}

  /** Sets up an untrained network; its weights and batches are the same with either loss. */
  public NoisyTraining(boolean regularised) {
    if (regularised) {
      Tensor targets =
          scope.allocate(Device.CPU, DType.F32, data.train().size(), CLASSES)
              .copyFrom(new float[data.train().size() * CLASSES]);
      loss =
          Elr.builder()
              .logits(batch.logits.tensor())
              .labels(labels)
              .index(index)
              .targets(targets)
              .grad(gradLogits.tensor())
              .build(scope);
    } else {
      loss =
          CrossEntropy.builder()
              .logits(batch.logits.tensor())
              .labels(labels)
              .grad(gradLogits.tensor())
              .build(scope);
    }
  }

  private Matrix uniform(int rows, int columns) {
    Matrix weight = new Matrix(rows, columns);
    float bound = (float) (1 / Math.sqrt(columns));
    float[] row = new float[columns];
    for (int i = 0; i < rows; i++) {
      for (int j = 0; j < columns; j++) {
        row[j] = (2 * random.nextFloat() - 1) * bound;
      }
      weight.setRow(i, row);
    }
    return weight;
  }

  /** What the network makes of some points: a ReLU layer, then the logits. */
  private final class Layers {
    private final Matrix inputs;
    private final Matrix hidden;
    private final Matrix logits;

    Layers(Matrix inputs) {
      this.inputs = inputs;
      hidden = new Matrix(inputs.rows(), HIDDEN);
      logits = new Matrix(inputs.rows(), CLASSES);
    }

    void forward() {
      inputs.timesTransposed(first, 1, hidden);
      float[] row = new float[HIDDEN];
      for (int i = 0; i < hidden.rows(); i++) {
        hidden.getRow(i, row);
        for (int j = 0; j < HIDDEN; j++) {
          row[j] = Math.max(0, row[j]);
        }
        hidden.setRow(i, row);
      }
      hidden.timesTransposed(second, 1, logits);
    }
  }

  /** Trains for {@code epochs} epochs. */
  public void run(int epochs) {
    for (int i = 0; i < epochs; i++) {
      for (int last = order.length - 1; last > 0; last--) {
        int other = random.nextInt(last + 1);
        int sample = order[last];
        order[last] = order[other];
        order[other] = sample;
      }
      for (int begin = 0; begin < order.length; begin += BATCH) {
        step(begin);
      }
      epoch++;
    }
  }

  private void step(int begin) {
    float[] point = new float[WIDTH];
    int[] samples = new int[BATCH];
    int[] said = new int[BATCH];
    for (int i = 0; i < BATCH; i++) {
      samples[i] = order[begin + i];
      said[i] = data.train().labels()[samples[i]];
      data.train().points().getRow(samples[i], point);
      points.setRow(i, point);
    }
    labels.copyFrom(said);
    index.copyFrom(samples);
    batch.forward();
    loss.run();
    gradLogits.transposedTimes(batch.hidden, gradSecond);
    gradLogits.times(second, gradHidden);
    float[] slope = new float[HIDDEN];
    float[] active = new float[HIDDEN];
    for (int i = 0; i < BATCH; i++) {
      gradHidden.getRow(i, slope);
      batch.hidden.getRow(i, active);
      for (int j = 0; j < HIDDEN; j++) {
        slope[j] = active[j] > 0 ? slope[j] : 0;
      }
      gradHidden.setRow(i, slope);
    }
    gradHidden.transposedTimes(points, gradFirst);
    optimizer.step(List.of(gradFirst, gradSecond));
  }

  /** Measures the network as it is now. */
  public Snapshot evaluate() {
    NoisyClouds train = data.train();
    int[] answers = answers(train);
    int given = 0;
    int wrong = 0;
    int memorised = 0;
    int seenThrough = 0;
    for (int i = 0; i < answers.length; i++) {
      given += answers[i] == train.labels()[i] ? 1 : 0;
      if (train.labels()[i] != train.truth()[i]) {
        wrong++;
        memorised += answers[i] == train.labels()[i] ? 1 : 0;
        seenThrough += answers[i] == train.truth()[i] ? 1 : 0;
      }
    }
    int[] unseen = answers(data.test());
    int right = 0;
    for (int i = 0; i < unseen.length; i++) {
      right += unseen[i] == data.test().truth()[i] ? 1 : 0;
    }
    return new Snapshot(epoch, (double) given / answers.length, (double) memorised / wrong,
        (double) seenThrough / wrong, (double) right / unseen.length);
  }

  private int[] answers(NoisyClouds clouds) {
    Layers layers = new Layers(clouds.points());
    layers.forward();
    float[] row = new float[CLASSES];
    int[] answers = new int[clouds.size()];
    for (int i = 0; i < answers.length; i++) {
      layers.logits.getRow(i, row);
      for (int j = 1; j < CLASSES; j++) {
        answers[i] = row[j] > row[answers[i]] ? j : answers[i];
      }
    }
    return answers;
  }

  @Override
  public void close() {
    scope.close();
  }
}
