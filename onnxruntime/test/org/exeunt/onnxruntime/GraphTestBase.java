// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OnnxValue;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtLoggingLevel;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.OrtSession.SessionOptions.OptLevel;
import ai.onnxruntime.TensorInfo;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.io.TempDir;

/** What tests share that run a graph by ONNX Runtime alone and with the provider. */
abstract class GraphTestBase {
  static final OrtEnvironment ENVIRONMENT = MiniLm.environment();
  static final int K = 64;
  static final int N = 96;
  private static final int GUARD = 4096;

  final Random random = new Random(7);
  /** The standard deviation of what is drawn. */
  float spread = 1;

  @TempDir Path folder;

  /** A provider that takes small products, too, which ONNX Runtime computes as fast. */
  static ExeuntProvider everything() {
    return ExeuntProvider.configure().threads(2).option("all", "1");
  }

  float[] random(int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian() * spread;
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

  record Output(long[] shape, float[] values) {}

  /** All outputs, of floats or i64. */
  private static List<Output> outputs(byte[] model, ExeuntProvider provider,
      Map<String, OnnxTensor> inputs, OptLevel level) throws OrtException {
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      options.setIntraOpNumThreads(2);
      options.addConfigEntry("session.intra_op.allow_spinning", "0"); // many sessions, few cores
      options.setOptimizationLevel(level);
      options.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL); // refusals may be wanted
      if (provider != null) {
        provider.add(options);
      }
      try (OrtSession session = ENVIRONMENT.createSession(model, options);
          OrtSession.Result result = session.run(inputs)) {
        List<Output> outputs = new ArrayList<>();
        for (Map.Entry<String, OnnxValue> output : result) {
          outputs.add(output((OnnxTensor) output.getValue()));
        }
        if (provider != null) {
          nothingBehind(session, inputs, result);
        }
        return outputs;
      }
    }
  }

  private static Output output(OnnxTensor tensor) {
    float[] values;
    if (tensor.getInfo().type == OnnxJavaType.INT64) {
      LongBuffer longs = tensor.getLongBuffer();
      values = new float[longs.remaining()];
      for (int i = 0; i < values.length; i++) {
        values[i] = longs.get(i);
      }
    } else {
      values = new float[tensor.getFloatBuffer().remaining()];
      tensor.getFloatBuffer().get(values);
    }
    return new Output(tensor.getInfo().getShape(), values);
  }

  /** Runs again, into memory of the test's own: what lies behind an output stays as it is. */
  private static void nothingBehind(OrtSession session, Map<String, OnnxTensor> inputs,
      OrtSession.Result result) throws OrtException {
    Map<String, OnnxTensor> into = new LinkedHashMap<>();
    List<ByteBuffer> buffers = new ArrayList<>();
    for (Map.Entry<String, OnnxValue> output : result) {
      TensorInfo info = ((OnnxTensor) output.getValue()).getInfo();
      int bytes = (int) info.getNumElements() * info.type.size;
      if (bytes == 0) {
        continue; // ONNX Runtime takes no empty buffers
      }
      ByteBuffer buffer = ByteBuffer.allocateDirect(bytes + GUARD).order(ByteOrder.nativeOrder());
      for (int i = bytes; i < buffer.capacity(); i++) {
        buffer.put(i, (byte) 77);
      }
      buffers.add(buffer.duplicate().position(bytes));
      into.put(output.getKey(),
          OnnxTensor.createTensor(ENVIRONMENT,
              buffer.limit(bytes).slice().order(ByteOrder.nativeOrder()), info.getShape(),
              info.type));
    }
    try {
      if (!into.isEmpty()) {
        session.run(inputs, Set.of(), into).close();
      }
    } catch (OrtException e) { // the graph says of an output what is not so
      assertTrue(e.getMessage().contains("Got invalid dimensions for output"), e.getMessage());
      into.values().forEach(OnnxTensor::close);
      return;
    }
    for (Map.Entry<String, OnnxTensor> one : into.entrySet()) {
      OnnxTensor first = (OnnxTensor) result.get(one.getKey()).orElseThrow();
      assertArrayEquals(output(first).values(), output(one.getValue()).values(), 0, "another run");
      one.getValue().close();
    }
    for (ByteBuffer buffer : buffers) {
      while (buffer.hasRemaining()) {
        assertEquals(77, buffer.get(), "what lies behind an output");
      }
    }
  }

  static List<float[]> run(byte[] model, ExeuntProvider provider, Map<String, OnnxTensor> inputs)
      throws OrtException {
    return run(model, provider, inputs, OptLevel.ALL_OPT);
  }

  static List<float[]> run(byte[] model, ExeuntProvider provider, Map<String, OnnxTensor> inputs,
      OptLevel level) throws OrtException {
    return outputs(model, provider, inputs, level).stream().map(Output::values).toList();
  }

  /** Null if the model cannot be loaded or run. */
  private static List<Output> outputsOrNull(
      byte[] model, ExeuntProvider provider, Map<String, OnnxTensor> inputs, OptLevel level) {
    try {
      return outputs(model, provider, inputs, level);
    } catch (OrtException e) {
      return null;
    }
  }

  /**
   * Compares with ONNX Runtime alone, without optimisations and with all: the same outputs, or
   * neither has any. Returns the last report.
   */
  String beside(byte[] model, Map<String, OnnxTensor> inputs, float tolerance) throws IOException {
    Path report = Files.createTempFile(folder, "report", ".txt");
    for (OptLevel level : List.of(OptLevel.NO_OPT, OptLevel.ALL_OPT)) {
      Files.writeString(report, "");
      List<Output> expected = outputsOrNull(model, null, inputs, level);
      List<Output> actual = outputsOrNull(model, everything().report(report), inputs, level);
      assertEquals(expected == null, actual == null,
          "whether it runs at " + level + "; " + Files.readString(report));
      for (int i = 0; expected != null && i < expected.size(); i++) {
        assertArrayEquals(expected.get(i).shape(), actual.get(i).shape(), "at " + level);
        assertArrayEquals(
            expected.get(i).values(), actual.get(i).values(), tolerance, "at " + level);
      }
    }
    return Files.readString(report);
  }

  static long claims(String report) {
    return report.lines().filter(line -> line.startsWith("claimed ")).count();
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
