// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OnnxValue;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.OrtSession.SessionOptions.OptLevel;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.io.TempDir;

/** What tests share that run a graph by ONNX Runtime alone and with the provider. */
abstract class GraphTestBase {
  static final OrtEnvironment ENVIRONMENT = MiniLm.environment();
  static final int K = 64;
  static final int N = 96;

  final Random random = new Random(7);

  @TempDir Path folder;

  /** A provider that takes small products, too, which ONNX Runtime computes as fast. */
  static ExeuntProvider everything() {
    return ExeuntProvider.configure().threads(2).option("all", "1");
  }

  float[] random(int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  OnnxTensor tensor(long... shape) throws OrtException {
    int count = 1;
    for (long extent : shape) {
      count *= (int) extent;
    }
    return OnnxTensor.createTensor(ENVIRONMENT, FloatBuffer.wrap(random(count)), shape);
  }

  /** All outputs, of f32 or i64, as floats. */
  static List<float[]> run(byte[] model, ExeuntProvider provider, Map<String, OnnxTensor> inputs)
      throws OrtException {
    return run(model, provider, inputs, OptLevel.ALL_OPT);
  }

  static List<float[]> run(byte[] model, ExeuntProvider provider, Map<String, OnnxTensor> inputs,
      OptLevel level) throws OrtException {
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      options.setIntraOpNumThreads(2);
      options.setOptimizationLevel(level);
      if (provider != null) {
        provider.add(options);
      }
      try (OrtSession session = ENVIRONMENT.createSession(model, options);
          OrtSession.Result result = session.run(inputs)) {
        List<float[]> outputs = new ArrayList<>();
        for (Map.Entry<String, OnnxValue> output : result) {
          OnnxTensor tensor = (OnnxTensor) output.getValue();
          if (tensor.getInfo().type == OnnxJavaType.INT64) {
            long[] values = new long[tensor.getLongBuffer().remaining()];
            tensor.getLongBuffer().get(values);
            float[] floats = new float[values.length];
            for (int i = 0; i < values.length; i++) {
              floats[i] = values[i];
            }
            outputs.add(floats);
          } else {
            float[] values = new float[tensor.getFloatBuffer().remaining()];
            tensor.getFloatBuffer().get(values);
            outputs.add(values);
          }
        }
        return outputs;
      }
    }
  }

  /** Runs with the provider, compares, and returns the report. */
  List<String> report(byte[] model, Map<String, OnnxTensor> inputs, List<float[]> expected,
      float tolerance, OptLevel level) throws Exception {
    Path report = Files.createTempFile(folder, "report", ".txt");
    List<float[]> actual = run(model, everything().report(report), inputs, level);
    assertEquals(expected.size(), actual.size());
    for (int i = 0; i < expected.size(); i++) {
      assertArrayEquals(expected.get(i), actual.get(i), tolerance, "output " + i);
    }
    return Files.readAllLines(report);
  }

  /** Runs both ways, compares, and returns the first line of the report. */
  String check(byte[] model, Map<String, OnnxTensor> inputs, float tolerance) throws Exception {
    return check(model, inputs, run(model, null, inputs), tolerance);
  }

  String check(byte[] model, Map<String, OnnxTensor> inputs, List<float[]> expected,
      float tolerance) throws Exception {
    List<String> lines = report(model, inputs, expected, tolerance, OptLevel.ALL_OPT);
    return lines.isEmpty() ? "" : lines.get(0);
  }
}
