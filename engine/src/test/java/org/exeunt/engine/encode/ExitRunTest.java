// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.exeunt.DType;
import org.exeunt.Normalizer;
import org.exeunt.engine.model.text.WordPiece;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Sentences that leave, on random weights. */
class ExitRunTest {
  private static final int SOME = 60;

  @TempDir Path folder;

  private Reviews reviews() throws IOException {
    EncoderFiles files = TinyEncoder.write(folder);
    return Reviews.read(files.reviews(), WordPiece.open(files.tokenizer()), TinyEncoder.POSITIONS);
  }

  /** Who reads a few of the shuffled sentences gets those, in their order. */
  @Test
  void aFewOfTheShuffledAreTheFirst() throws IOException {
    Reviews all = reviews().shuffled();
    EncoderFiles files = new EncoderFiles(folder);
    WordPiece tokenizer = WordPiece.open(files.tokenizer());
    for (int most : new int[] {0, 1, SOME, all.size(), all.size() + 1}) {
      Reviews few = Reviews.readShuffled(files.reviews(), tokenizer, TinyEncoder.POSITIONS, most);
      Reviews expected = all.part(0, Math.min(most, all.size()));
      assertEquals(expected.texts(), few.texts());
      assertArrayEquals(expected.labels(), few.labels());
      assertArrayEquals(expected.sentences().toArray(), few.sentences().toArray());
    }
  }

  /** What leaves the encoder is what the same rule says of states that all layers have made. */
  @Test
  void batchesLeaveAsKeptStatesSay() throws IOException {
    Reviews reviews = reviews();
    try (
        EncoderWeights weights = EncoderWeights.load(new EncoderFiles(folder).model(), DType.F32)) {
      LayerStates states;
      try (Encoder encoder = new Encoder(weights, 32, TinyEncoder.POSITIONS)) {
        states = LayerStates.of(encoder, TinyEncoder.LAYERS, reviews, done -> {});
      }
      FittedExits fitted =
          FittedExits.heads(states, new LinearFit.Setup(Normalizer.STABLEMAX, true));
      fitted.addGates(states, states);
      for (double accuracy : fitted.accuracies(states)) {
        assertTrue(accuracy > .65, "accuracy " + accuracy);
      }
      LayerStates some = states.part(0, SOME);
      for (int batch : new int[] {1, 7, 32}) {
        try (Encoder encoder = new Encoder(weights, batch, TinyEncoder.POSITIONS)) {
          for (ExitPlan.Kind kind : ExitPlan.Kind.values()) {
            boolean early = false;
            boolean late = false;
            for (ExitPlan plan : kind.plans(TinyEncoder.LAYERS)) {
              ExitRun expected = ExitRun.of(fitted, plan, some);
              try (SentenceExits exits = new SentenceExits(fitted, plan, encoder.pooled())) {
                ExitRun found = ExitRun.of(encoder, exits, reviews.part(0, SOME).sentences());
                assertArrayEquals(expected.exitLayers(), found.exitLayers(), plan.toString());
                assertArrayEquals(expected.answers(), found.answers(), plan.toString());
              }
              early |= expected.meanLayers() < TinyEncoder.LAYERS;
              late |= expected.meanLayers() > 1;
            }
            assertTrue(early && late, kind + " decides nothing");
          }
        }
      }
    }
  }

  /** Texts in, answers out, with exits that were sent from another JVM. */
  @Test
  void aClassifierAnswersAsTheRuleDoes() throws Exception {
    Reviews reviews = reviews();
    WordPiece tokenizer = WordPiece.open(new EncoderFiles(folder).tokenizer());
    try (EncoderWeights weights = EncoderWeights.load(new EncoderFiles(folder).model(), DType.F32);
        Encoder encoder = new Encoder(weights, 7, TinyEncoder.POSITIONS)) {
      FittedExits fitted = FittedExits.fit(weights, reviews);
      Reviews some = reviews.part(0, SOME);
      for (String rule : List.of("threshold:.75", "quantile:0.7", "patience:1", "depth:2")) {
        ExitPlan plan = ExitPlan.parse(rule);
        ExitRun expected;
        try (SentenceExits exits = new SentenceExits(fitted, plan, encoder.pooled())) {
          expected = ExitRun.of(encoder, exits, some.sentences());
        }
        try (Classifier classifier = new Classifier(encoder, tokenizer, sent(fitted), sent(plan))) {
          List<Classifier.Answer> answers = classifier.classify(some.texts());
          for (int s = 0; s < SOME; s++) {
            assertEquals(new Classifier.Answer(expected.answers()[s], expected.confidences()[s],
                             expected.exitLayers()[s]),
                answers.get(s), rule);
            assertTrue(answers.get(s).confidence() >= .5, rule);
          }
        }
      }
      ExitPlan deep = ExitPlan.parse("depth:" + (TinyEncoder.LAYERS + 1));
      assertThrows(
          IllegalArgumentException.class, () -> new Classifier(encoder, tokenizer, fitted, deep));
    }
    for (String rule : List.of("", "depth", "depth:0", "patience:1.5", "threshold:2", "jei:0")) {
      assertThrows(IllegalArgumentException.class, () -> ExitPlan.parse(rule), rule);
    }
  }

  /** What another JVM makes of an object. */
  @SuppressWarnings("unchecked")
  private static <T> T sent(T object) throws Exception {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (ObjectOutputStream out = new ObjectOutputStream(bytes)) {
      out.writeObject(object);
    }
    try (ObjectInputStream in =
             new ObjectInputStream(new ByteArrayInputStream(bytes.toByteArray()))) {
      return (T) in.readObject();
    }
  }

  @Test
  void fixedDepthsRunSoManyLayers() throws IOException {
    Reviews reviews = reviews().part(0, 40);
    try (EncoderWeights weights = EncoderWeights.load(new EncoderFiles(folder).model(), DType.F32);
        Encoder encoder = new Encoder(weights, 32, TinyEncoder.POSITIONS)) {
      LayerStates states = LayerStates.of(encoder, TinyEncoder.LAYERS, reviews, done -> {});
      FittedExits fitted =
          FittedExits.heads(states, new LinearFit.Setup(Normalizer.SOFTMAX, false));
      double[] accuracies = fitted.accuracies(states);
      for (int depth = 1; depth <= TinyEncoder.LAYERS; depth++) {
        ExitRun run = ExitRun.of(fitted, new ExitPlan(ExitPlan.Kind.DEPTH, depth), states);
        assertEquals(depth, run.meanLayers());
        assertEquals(accuracies[depth - 1], states.accuracy(run.answers()));
      }
    }
  }

  @Test
  void everyLossFitsWhatALineDivides() {
    Random random = new Random(5);
    float[][] features = new float[300][6];
    int[] labels = new int[300];
    for (int i = 0; i < labels.length; i++) {
      for (int f = 0; f < 6; f++) {
        features[i][f] = (float) (random.nextGaussian() * (1 << f) + 3 * f);
      }
      features[i][5] = 7; // says nothing
      labels[i] = features[i][0] + features[i][2] / 4 > 1.5 ? 1 : 0;
    }
    for (Normalizer normalizer : Normalizer.values()) {
      for (boolean perpGrad : new boolean[] {false, true}) {
        LinearFit.Setup setup = new LinearFit.Setup(normalizer, perpGrad);
        LinearFit.Line line = LinearFit.fit(features, labels, setup);
        long right = 0;
        for (int i = 0; i < labels.length; i++) {
          double[] logit = {line.bias()[0], line.bias()[1]};
          for (int f = 0; f < 6; f++) {
            logit[0] += line.weight()[f] * features[i][f];
            logit[1] += line.weight()[6 + f] * features[i][f];
          }
          right += logit[1] > logit[0] == (labels[i] == 1) ? 1 : 0;
        }
        assertTrue(right > 260, setup + ": " + right);
        assertTrue(Arrays.equals(line.weight(), LinearFit.fit(features, labels, setup).weight()));
      }
    }
  }
}
