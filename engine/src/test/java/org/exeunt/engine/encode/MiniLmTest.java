// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.encode;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.exeunt.DType;
import org.exeunt.Normalizer;
import org.exeunt.engine.TestData;
import org.exeunt.engine.model.text.WordPiece;
import org.junit.jupiter.api.Test;

/** The encoder beside ONNX Runtime on the same file. */
class MiniLmTest {
  private static final int SENTENCES = 60;
  private static final int BATCH = 20;
  private static final int LONGEST = 128;
  private static final int FITTED = Boolean.getBoolean("exeunt.quick") ? 300 : 600;
  private static final int TESTED = FITTED / 2;

  @Test
  void meansAreThoseOfOnnxRuntime() throws Exception {
    EncoderFiles files = TestData.encoder();
    List<int[]> sentences =
        Reviews.read(files.reviews(), WordPiece.open(files.tokenizer()), LONGEST)
            .part(0, SENTENCES)
            .sentences();
    List<float[]> expected = new ArrayList<>();
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      options.addConfigEntry("session.intra_op.allow_spinning", "0");
      try (OrtSession session =
               OrtEnvironment.getEnvironment().createSession(files.model().toString(), options)) {
        for (int from = 0; from < SENTENCES; from += BATCH) {
          expected.addAll(Arrays.asList(means(session, sentences.subList(from, from + BATCH))));
        }
      }
    }
    compare(files, DType.F32, sentences, expected, .9999999);
    compare(files, DType.BF16, sentences, expected, .9999);
  }

  private static void compare(EncoderFiles files, DType type, List<int[]> sentences,
      List<float[]> expected, double least) throws IOException {
    try (EncoderWeights weights = EncoderWeights.load(files.model(), type);
        Encoder encoder = new Encoder(weights, BATCH, LONGEST)) {
      for (int from = 0; from < SENTENCES; from += BATCH) {
        float[][] found = encoder.embed(sentences.subList(from, from + BATCH));
        for (int s = 0; s < BATCH; s++) {
          double cosine = cosine(found[s], expected.get(from + s));
          int number = from + s;
          assertTrue(cosine >= least, () -> type + ": cosine " + cosine + " of " + number);
        }
      }
    }
  }

  /** Heads of a minute's fit let sentences leave, and are right as often as the last layer's. */
  @Test
  void leavingEarlyCostsNoAccuracy() throws Exception {
    EncoderFiles files = TestData.encoder();
    Reviews reviews =
        Reviews.read(files.reviews(), WordPiece.open(files.tokenizer()), LONGEST).shuffled();
    reviews = reviews.part(0, FITTED + TESTED);
    try (EncoderWeights weights = EncoderWeights.load(files.model(), DType.BF16);
        Encoder encoder = new Encoder(weights, 32, LONGEST)) {
      int layers = weights.layerCount();
      LayerStates states = LayerStates.of(encoder, layers, reviews, done -> {});
      LayerStates test = states.part(FITTED, FITTED + TESTED);
      FittedExits fitted =
          FittedExits.heads(states.part(0, FITTED), new LinearFit.Setup(Normalizer.SOFTMAX, false));
      ExitRun full = ExitRun.of(fitted, ExitPlan.full(layers), test);
      assertTrue(test.accuracy(full.answers()) > .65, "accuracy " + test.accuracy(full.answers()));
      ExitPlan plan = new ExitPlan(ExitPlan.Kind.THRESHOLD, .75);
      ExitRun kept = ExitRun.of(fitted, plan, test);
      try (SentenceExits exits = new SentenceExits(fitted, plan, encoder.pooled())) {
        ExitRun run = ExitRun.of(encoder, exits, reviews.part(FITTED, FITTED + TESTED).sentences());
        assertArrayEquals(kept.exitLayers(), run.exitLayers());
        assertArrayEquals(kept.answers(), run.answers());
        assertTrue(run.meanLayers() < .5 * layers, "mean layers " + run.meanLayers());
        assertTrue(test.accuracy(run.answers()) > test.accuracy(full.answers()) - .005,
            test.accuracy(run.answers()) + ", all layers " + test.accuracy(full.answers()));
      }
    }
  }

  /** What ONNX Runtime makes of a padded batch. */
  private static float[][] means(OrtSession session, List<int[]> batch) throws OrtException {
    int longest = batch.stream().mapToInt(tokens -> tokens.length).max().orElse(0);
    long[][] ids = new long[batch.size()][longest];
    long[][] mask = new long[batch.size()][longest];
    for (int s = 0; s < ids.length; s++) {
      int[] tokens = batch.get(s);
      for (int t = 0; t < tokens.length; t++) {
        ids[s][t] = tokens[t];
        mask[s][t] = 1;
      }
    }
    OrtEnvironment environment = OrtEnvironment.getEnvironment();
    try (OnnxTensor input = OnnxTensor.createTensor(environment, ids);
        OnnxTensor attention = OnnxTensor.createTensor(environment, mask);
        OnnxTensor types = OnnxTensor.createTensor(environment, new long[ids.length][longest]);
        OrtSession.Result result = session.run(
            Map.of("input_ids", input, "attention_mask", attention, "token_type_ids", types))) {
      float[][][] states = (float[][][]) result.get(0).getValue();
      float[][] means = new float[ids.length][];
      for (int s = 0; s < means.length; s++) {
        means[s] = mean(Arrays.copyOf(states[s], batch.get(s).length));
      }
      return means;
    }
  }

  static float[] mean(float[][] states) {
    float[] mean = new float[states[0].length];
    for (int i = 0; i < mean.length; i++) {
      double sum = 0;
      for (float[] state : states) {
        sum += state[i];
      }
      mean[i] = (float) (sum / states.length);
    }
    return mean;
  }

  private static double cosine(float[] a, float[] b) {
    double product = 0;
    double squareA = 0;
    double squareB = 0;
    for (int i = 0; i < a.length; i++) {
      product += (double) a[i] * b[i];
      squareA += (double) a[i] * a[i];
      squareB += (double) b[i] * b[i];
    }
    return product / Math.sqrt(squareA * squareB);
  }
}
