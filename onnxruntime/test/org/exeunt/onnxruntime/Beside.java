// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OnnxValue;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtLoggingLevel;
import ai.onnxruntime.OrtSession;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;

/** ONNX Runtime alone beside itself with the provider: the same values, or neither has any. */
final class Beside {
  private static final OrtEnvironment ENVIRONMENT = MiniLm.environment();

  private final Random random = new Random(11);
  private final Path report;

  Beside(Path folder) {
    report = folder.resolve("report.txt");
  }

  float[] random(int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian() / 4;
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

  /** What a model makes of inputs; null if it cannot be loaded or run. */
  private static List<float[]> run(byte[] model, ExeuntProvider provider,
      OrtSession.SessionOptions.OptLevel level, Map<String, OnnxTensor> inputs)
      throws OrtException {
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      options.setIntraOpNumThreads(2);
      options.setOptimizationLevel(level);
      options.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL); // refusals are wanted
      if (provider != null) {
        provider.add(options);
      }
      try (OrtSession session = ENVIRONMENT.createSession(model, options);
          OrtSession.Result result = session.run(inputs)) {
        List<float[]> outputs = new ArrayList<>();
        for (Map.Entry<String, OnnxValue> output : result) {
          OnnxTensor tensor = (OnnxTensor) output.getValue();
          float[] shape = new float[tensor.getInfo().getShape().length];
          for (int i = 0; i < shape.length; i++) {
            shape[i] = tensor.getInfo().getShape()[i];
          }
          outputs.add(shape);
          if (tensor.getInfo().type == OnnxJavaType.FLOAT) {
            float[] values = new float[tensor.getFloatBuffer().remaining()];
            tensor.getFloatBuffer().get(values);
            outputs.add(values);
          }
        }
        return outputs;
      }
    } catch (OrtException e) {
      return null;
    }
  }

  /** Compares, without optimisations and with all; the report of the last run. */
  String check(byte[] model, Map<String, OnnxTensor> inputs, float tolerance)
      throws OrtException, IOException {
    for (OrtSession.SessionOptions.OptLevel level :
        List.of(OrtSession.SessionOptions.OptLevel.NO_OPT,
            OrtSession.SessionOptions.OptLevel.ALL_OPT)) {
      List<float[]> expected = run(model, null, level, inputs);
      Files.writeString(report, "");
      List<float[]> actual = run(model, GraphTestBase.everything().report(report), level, inputs);
      assertEquals(expected == null, actual == null,
          "whether it runs at " + level + "; " + Files.readString(report));
      for (int i = 0; expected != null && i < expected.size(); i++) {
        assertArrayEquals(expected.get(i), actual.get(i), tolerance, "at " + level);
      }
    }
    return Files.readString(report);
  }

  static long claims(String report) {
    return Arrays.stream(report.split("\n")).filter(line -> line.startsWith("claimed ")).count();
  }
}
