// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.cuda;

import java.util.List;
import org.bytedeco.cuda.cudnn.cudnnReduceTensorStruct;
import org.bytedeco.cuda.cudnn.cudnnTensorStruct;
import org.bytedeco.cuda.global.cublas;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.cuda.global.cudnn;
import org.bytedeco.javacpp.DoublePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.SizeTPointer;
import org.exeunt.Backend;
import org.exeunt.DType;
import org.exeunt.Normalizer;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Contenders;
import org.exeunt.bench.contenders.Peer;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.cases.Cases;
import org.exeunt.jni.exn_exit_head_params;
import org.exeunt.jni.exn_row_stats_params;
import org.exeunt.jni.exn_stablemax_params;
import org.exeunt.jni.exn_stats;

/**
 * cuDNN and cuBLAS on a GPU, through org.bytedeco:cuda: a softmax; the most probable column of
 * logits; and that of a head, whose logits cuBLAS computes in f32. They have no margin and no
 * entropy, so their work is less than exeunt's there. A run waits until the device is done.
 */
public final class CudaContenders extends Contenders {
  public CudaContenders() {
    offer("stablemax", CudaContenders::softmax);
    offer("row_stats", CudaContenders::rowStats);
    offer("exit_head", CudaContenders::exitHead);
  }

  /** Why these libraries cannot be used, in one sentence; "" if they can. */
  public static String reason() {
    if (!Backend.CUDA.available()) {
      return Backend.CUDA.reason();
    }
    try {
      for (Class<?> library : new Class<?>[] {cudart.class, cublas.class, cudnn.class}) {
        Loader.load(library);
      }
      return "";
    } catch (LinkageError e) {
      Throwable cause = e;
      while (cause.getCause() != null && cause.getCause() != cause) {
        cause = cause.getCause();
      }
      return "org.bytedeco:cuda needs CUDA 13, cuBLAS 13 and cuDNN 9: " + cause.getMessage();
    }
  }

  /** The name of the GPU, for reports. */
  public static String card() {
    return Card.name();
  }

  @Override
  public boolean offers(Cases.Listed c) {
    return super.offers(c) && composes(c);
  }

  private static boolean composes(Cases.Listed c) {
    switch (c.op()) {
      case "stablemax":
        return softmaxes(c) && c.text("pad").equals("0") && c.text("out_pad").equals("0");
      case "row_stats":
        return softmaxes(c) && c.text("dtype").equals("f32") && c.text("pad").equals("0")
            && plain(c);
      default:
        return softmaxes(c) && c.text("hidden").equals(c.text("weight"))
            && c.text("hidden_pad").equals("0") && c.text("weight_pad").equals("0")
            && c.text("bias").equals("-") && c.text("translator").equals("-")
            && c.text("screen").equals("-") && plain(c);
    }
  }

  private static boolean softmaxes(Cases.Listed c) {
    return c.text("normalizer").equals("softmax") && c.integer("rows") > 0;
  }

  /** Logits as they are, of which a most probable column is asked for. */
  private static boolean plain(Cases.Listed c) {
    List<String> outputs = List.of(c.text("outputs").split(","));
    return c.text("temperature").equals("1") && c.text("softcap").equals("0")
        && (outputs.contains("argmax") || outputs.contains("p1"));
  }

  private static Contender softmax(Problem problem, int threads) {
    exn_stablemax_params p = problem.params(exn_stablemax_params::new);
    assert p.normalizer() == Normalizer.SOFTMAX.ordinal();
    DeviceMatrix logits = DeviceMatrix.of(p.logits());
    DeviceMatrix out = DeviceMatrix.of(p.out());
    Card card = new Card();
    DeviceMatrix result = DeviceMatrix.allocate(card, logits.rows(), logits.cols(), logits.dtype());
    int algorithm = p.log() == 0 ? cudnn.CUDNN_SOFTMAX_ACCURATE : cudnn.CUDNN_SOFTMAX_LOG;
    Softmax softmax = new Softmax(card, algorithm, logits, result);
    return new Peer() {
      @Override
      public Object run() {
        softmax.queue();
        card.await();
        return result;
      }

      @Override
      public void deliver() {
        card.copy(out.data(), result.data(), out.bytes());
      }

      @Override
      public void close() {
        softmax.close();
        card.close();
      }
    };
  }

  private static Contender rowStats(Problem problem, int threads) {
    exn_row_stats_params p = problem.params(exn_row_stats_params::new);
    Card card = new Card();
    return new MostProbable(card, () -> {}, DeviceMatrix.of(p.logits()), p.out());
  }

  private static Contender exitHead(Problem problem, int threads) {
    exn_exit_head_params p = problem.params(exn_exit_head_params::new);
    DeviceMatrix hidden = DeviceMatrix.of(p.hidden());
    DeviceMatrix weight = DeviceMatrix.of(p.weight());
    Card card = new Card();
    DeviceMatrix logits = DeviceMatrix.allocate(card, hidden.rows(), weight.rows(), DType.F32);
    FloatPointer one = new FloatPointer(1f);
    FloatPointer zero = new FloatPointer(0f);
    // Column-major, what lies there is weight^T [dim,V], hidden^T [dim,R] and logits^T [V,R].
    Runnable product = ()
        -> Card.succeedBlas(
            cublas.cublasGemmEx(card.blas, cublas.CUBLAS_OP_T, cublas.CUBLAS_OP_N, weight.rows(),
                hidden.rows(), hidden.cols(), one, weight.data(), weight.blasType(), weight.cols(),
                hidden.data(), hidden.blasType(), hidden.cols(), zero, logits.data(),
                logits.blasType(), weight.rows(), cublas.CUBLAS_COMPUTE_32F,
                cublas.CUBLAS_GEMM_DEFAULT),
            "cublasGemmEx");
    return new MostProbable(card, product, logits, p.out());
  }

  /** A softmax over the rows of a matrix. */
  private static final class Softmax implements AutoCloseable {
    private final Card card;
    private final int algorithm;
    private final DeviceMatrix in;
    private final DeviceMatrix out;
    private final cudnnTensorStruct shape;
    private final Scalars scalars;

    Softmax(Card card, int algorithm, DeviceMatrix in, DeviceMatrix out) {
      this.card = card;
      this.algorithm = algorithm;
      this.in = in;
      this.out = out;
      shape = describe(in.dnnType(), in.rows(), in.cols());
      scalars = new Scalars(in.dtype());
    }

    void queue() {
      Card.succeedDnn(
          cudnn.cudnnSoftmaxForward(card.dnn, algorithm, cudnn.CUDNN_SOFTMAX_MODE_INSTANCE,
              scalars.one, shape, in.data(), scalars.zero, shape, out.data()),
          "cudnnSoftmaxForward");
    }

    @Override
    public void close() {
      cudnn.cudnnDestroyTensorDescriptor(shape);
    }
  }

  /** Softmax and the maximum of each row, with its index. */
  private static final class MostProbable implements Peer {
    private final Card card;
    private final Runnable before;
    private final DeviceMatrix argmax;
    private final DeviceMatrix p1;
    private final Softmax softmax;
    private final DeviceMatrix probabilities;
    private final DeviceMatrix index;
    private final DeviceMatrix most;
    private final cudnnReduceTensorStruct maximum = new cudnnReduceTensorStruct();
    private final cudnnTensorStruct columns;
    private final cudnnTensorStruct single;
    private final Pointer workspace;
    private final long indexBytes;
    private final long workspaceBytes;
    private final Scalars scalars = new Scalars(DType.F32);

    MostProbable(Card card, Runnable before, DeviceMatrix logits, exn_stats out) {
      this.card = card;
      this.before = before;
      int rows = logits.rows();
      int type = logits.dnnType();
      argmax = DeviceMatrix.of(out.argmax());
      p1 = DeviceMatrix.of(out.p1());
      probabilities = DeviceMatrix.allocate(card, rows, logits.cols(), logits.dtype());
      softmax = new Softmax(card, cudnn.CUDNN_SOFTMAX_ACCURATE, logits, probabilities);
      columns = describe(type, rows, logits.cols());
      single = describe(type, rows, 1);
      Card.succeedDnn(
          cudnn.cudnnCreateReduceTensorDescriptor(maximum), "cudnnCreateReduceTensorDescriptor");
      Card.succeedDnn(
          cudnn.cudnnSetReduceTensorDescriptor(maximum, cudnn.CUDNN_REDUCE_TENSOR_MAX, type,
              cudnn.CUDNN_PROPAGATE_NAN, cudnn.CUDNN_REDUCE_TENSOR_FLATTENED_INDICES,
              cudnn.CUDNN_32BIT_INDICES),
          "cudnnSetReduceTensorDescriptor");
      SizeTPointer bytes = new SizeTPointer(1);
      Card.succeedDnn(cudnn.cudnnGetReductionIndicesSize(card.dnn, maximum, columns, single, bytes),
          "cudnnGetReductionIndicesSize");
      indexBytes = bytes.get();
      Card.succeedDnn(
          cudnn.cudnnGetReductionWorkspaceSize(card.dnn, maximum, columns, single, bytes),
          "cudnnGetReductionWorkspaceSize");
      workspaceBytes = bytes.get();
      index = new DeviceMatrix(card.allocate(indexBytes), rows, 1, DType.I32);
      workspace = card.allocate(workspaceBytes);
      most = DeviceMatrix.allocate(card, rows, 1, logits.dtype());
    }

    @Override
    public Object run() {
      before.run();
      softmax.queue();
      Card.succeedDnn(
          cudnn.cudnnReduceTensor(card.dnn, maximum, index.data(), indexBytes, workspace,
              workspaceBytes, scalars.one, columns, probabilities.data(), scalars.zero, single,
              most.data()),
          "cudnnReduceTensor");
      card.await();
      return most;
    }

    @Override
    public void deliver() {
      if (argmax != null) {
        card.copy(argmax.data(), index.data(), argmax.bytes());
      }
      if (p1 != null) {
        card.copy(p1.data(), most.data(), p1.bytes());
      }
    }

    @Override
    public void close() {
      softmax.close();
      cudnn.cudnnDestroyReduceTensorDescriptor(maximum);
      cudnn.cudnnDestroyTensorDescriptor(columns);
      cudnn.cudnnDestroyTensorDescriptor(single);
      card.close();
    }
  }

  /** Factors in host memory, which cuDNN reads as f32, of f64 tensors as f64. */
  private static final class Scalars {
    final Pointer one;
    final Pointer zero;

    Scalars(DType dtype) {
      boolean wide = dtype == DType.F64;
      one = wide ? new DoublePointer(1.0) : new FloatPointer(1f);
      zero = wide ? new DoublePointer(0.0) : new FloatPointer(0f);
    }
  }

  /** Rows as images of so many channels and one pixel. */
  private static cudnnTensorStruct describe(int type, int rows, int channels) {
    cudnnTensorStruct shape = new cudnnTensorStruct();
    Card.succeedDnn(cudnn.cudnnCreateTensorDescriptor(shape), "cudnnCreateTensorDescriptor");
    Card.succeedDnn(cudnn.cudnnSetTensor4dDescriptor(
                        shape, cudnn.CUDNN_TENSOR_NCHW, type, rows, channels, 1, 1),
        "cudnnSetTensor4dDescriptor");
    return shape;
  }
}
