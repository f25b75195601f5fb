// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.onnx;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtLoggingLevel;
import ai.onnxruntime.OrtSession;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.nio.ShortBuffer;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Supplier;
import org.exeunt.DType;
import org.exeunt.Tensor;
import org.exeunt.bench.contenders.Matrix;

/**
 * An ONNX Runtime session as a careful user would set it up: all graph optimisations, weights as
 * initializers so that they are pre-packed, inputs and outputs in resident memory, so that a run
 * copies and allocates nothing in Java. Sessions that want as many threads as the first one share
 * them: several are one program's.
 */
final class OnnxSession implements AutoCloseable {
  private static OrtEnvironment environment;
  private static int shared;

  private final OrtSession session;
  private final Map<String, OnnxTensor> inputs = new LinkedHashMap<>();
  private final Map<String, OnnxTensor> outputs = new LinkedHashMap<>();

  OnnxSession(byte[] model, int threads) {
    startEnvironment(threads);
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      if (threads == shared) {
        options.disablePerSessionThreads();
      } else {
        options.setIntraOpNumThreads(threads);
        options.setInterOpNumThreads(1);
      }
      options.setOptimizationLevel(OrtSession.SessionOptions.OptLevel.ALL_OPT);
      session = environment.createSession(model, options);
    } catch (OrtException e) {
      throw new IllegalStateException("ONNX Runtime rejects the model: " + e.getMessage(), e);
    }
  }

  private static synchronized void startEnvironment(int threads) {
    if (environment != null) {
      return;
    }
    try (OrtEnvironment.ThreadingOptions options = new OrtEnvironment.ThreadingOptions()) {
      options.setGlobalIntraOpNumThreads(threads);
      options.setGlobalInterOpNumThreads(1);
      environment =
          OrtEnvironment.getEnvironment(OrtLoggingLevel.ORT_LOGGING_LEVEL_WARNING, "", options);
      shared = threads;
    } catch (OrtException e) {
      throw new IllegalStateException(e);
    }
  }

  void input(String name, Matrix matrix) {
    input(name, matrix, memory(matrix.bytes()), matrix.rows(), matrix.cols());
  }

  private void input(String name, Matrix matrix, ByteBuffer memory, long... shape) {
    matrix.copyTo(memory);
    inputs.put(name, tensor(memory, type(matrix.storage()), shape));
  }

  /** The bits of a tensor, in another shape. */
  void input(String name, Tensor tensor, long... shape) {
    ByteBuffer memory = memory(tensor.byteSize());
    inputs.put(name, tensor(memory.put(tensor.byteBuffer()).rewind(), type(tensor.dtype()), shape));
  }

  private static OnnxJavaType type(DType storage) {
    return storage == DType.BF16 ? OnnxJavaType.BFLOAT16 : OnnxJavaType.FLOAT;
  }

  void input(String name, long[] values, long... shape) {
    ByteBuffer memory = memory(8L * values.length);
    memory.asLongBuffer().put(values);
    inputs.put(name, tensor(memory, OnnxJavaType.INT64, shape));
  }

  /** Booleans in memory of the caller's. */
  void boolInput(String name, ByteBuffer memory, long... shape) {
    inputs.put(name, tensor(memory, OnnxJavaType.BOOL, shape));
  }

  ByteBuffer boolOutput(String name, long... shape) {
    return output(name, OnnxJavaType.BOOL, 1, shape);
  }

  FloatBuffer floatOutput(String name, long... shape) {
    return output(name, OnnxJavaType.FLOAT, 4, shape).asFloatBuffer();
  }

  LongBuffer longOutput(String name, long... shape) {
    return output(name, OnnxJavaType.INT64, 8, shape).asLongBuffer();
  }

  /**
   * An input and, in the same memory, the output that an operator makes of it where it lies; the
   * supplier widens that to f32.
   */
  Supplier<float[]> updated(String output, String input, Matrix before) {
    return updated(output, input, before, before.rows(), before.cols());
  }

  /** The same in another shape. */
  Supplier<float[]> updated(String output, String input, Matrix before, long... shape) {
    ByteBuffer memory = memory(before.bytes());
    input(input, before, memory, shape);
    outputs.put(output, tensor(memory, type(before.storage()), shape));
    return () -> floats(memory, before.storage());
  }

  /** The same of the bits of a tensor. */
  ByteBuffer updated(String output, String input, Tensor before) {
    ByteBuffer memory = memory(before.byteSize());
    memory.put(before.byteBuffer()).rewind();
    inputs.put(input, tensor(memory, type(before.dtype()), before.shape()));
    outputs.put(output, tensor(memory, type(before.dtype()), before.shape()));
    return memory;
  }

  /** An output in the shape and storage of {@code like}; the supplier widens it to f32. */
  Supplier<float[]> matrixOutput(String name, Matrix like) {
    ByteBuffer memory = output(name, like.storage(), like.rows(), like.cols());
    return () -> floats(memory, like.storage());
  }

  /** The bits of an output. */
  ByteBuffer output(String name, DType storage, long... shape) {
    return output(name, type(storage), storage.bytes(), shape);
  }

  private static float[] floats(ByteBuffer memory, DType storage) {
    float[] values = new float[memory.capacity() / storage.bytes()];
    if (storage == DType.F32) {
      memory.asFloatBuffer().get(values);
      return values;
    }
    ShortBuffer halves = memory.asShortBuffer();
    for (int i = 0; i < values.length; i++) {
      values[i] = DType.bf16ToFloat(halves.get(i));
    }
    return values;
  }

  /** Runs into the resident outputs. */
  Object run() {
    try (OrtSession.Result result = session.run(inputs, outputs)) {
      return result;
    } catch (OrtException e) {
      throw new IllegalStateException("ONNX Runtime fails: " + e.getMessage(), e);
    }
  }

  @Override
  public void close() {
    inputs.values().forEach(OnnxTensor::close);
    outputs.values().forEach(OnnxTensor::close);
    try {
      session.close();
    } catch (OrtException e) {
      throw new IllegalStateException(e);
    }
  }

  private ByteBuffer output(String name, OnnxJavaType type, int elementBytes, long... shape) {
    long elements = 1;
    for (long extent : shape) {
      elements *= extent;
    }
    ByteBuffer memory = memory(elements * elementBytes);
    outputs.put(name, tensor(memory, type, shape));
    return memory;
  }

  private OnnxTensor tensor(ByteBuffer memory, OnnxJavaType type, long... shape) {
    try {
      return OnnxTensor.createTensor(environment, memory, shape, type);
    } catch (OrtException e) {
      throw new IllegalStateException(e);
    }
  }

  private static ByteBuffer memory(long bytes) {
    return ByteBuffer.allocateDirect(Math.toIntExact(bytes)).order(ByteOrder.nativeOrder());
  }
}
