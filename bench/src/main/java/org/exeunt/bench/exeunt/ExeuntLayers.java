// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.exeunt;

import java.util.ArrayList;
import java.util.List;
import org.exeunt.Attention;
import org.exeunt.Backend;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Ffn;
import org.exeunt.FfnSkipRule;
import org.exeunt.KvCache;
import org.exeunt.KvPropagate;
import org.exeunt.Linear;
import org.exeunt.Norm;
import org.exeunt.Op;
import org.exeunt.Rope;
import org.exeunt.RowCompaction;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.bench.Contender;
import org.exeunt.bench.LayerContenders;
import org.exeunt.bench.reference.AttentionProblem;
import org.exeunt.bench.reference.CacheLayout;
import org.exeunt.bench.reference.FfnProblem;
import org.exeunt.bench.reference.FfnResult;
import org.exeunt.bench.reference.KvCopyProblem;
import org.exeunt.bench.reference.KvPropagateProblem;
import org.exeunt.bench.reference.LinearProblem;
import org.exeunt.bench.reference.Matrix;
import org.exeunt.bench.reference.NormProblem;
import org.exeunt.bench.reference.RopeProblem;
import org.exeunt.bench.reference.RowCompactionProblem;
import org.exeunt.bench.reference.Storage;

/** The ops of a transformer layer, through the Java API. */
abstract class ExeuntLayers implements LayerContenders {
  @Override
  public Contender<float[]> norm(NormProblem problem, int threads) {
    Scope scope = open(threads);
    Tensor out = like(scope, problem.input);
    Norm.Builder builder = Norm.builder().input(tensor(scope, problem.input)).out(out);
    Tensor weight = vector(scope, problem.weight);
    Norm op = (problem.bias == null
        ? builder.rms(weight, problem.eps)
        : builder.layer(weight, vector(scope, problem.bias), problem.eps)).build(scope);
    return new OpContender<>(scope, op, out::toFloatArray);
  }

  @Override
  public Contender<float[]> rope(RopeProblem problem, int threads) {
    Scope scope = open(threads);
    long[] shape = {problem.input.rows(), problem.heads, problem.dim()};
    Tensor out = like(scope, problem.input);
    Rope op = Rope.builder()
        .input(tensor(scope, problem.input).reshape(shape))
        .position(ints(scope, problem.position))
        .table(table(scope, problem.table), style(problem.interleaved))
        .out(out.reshape(shape))
        .build(scope);
    return new OpContender<>(scope, op, out::toFloatArray);
  }

  @Override
  public Contender<float[]> linear(LinearProblem problem, int threads) {
    Scope scope = open(threads);
    Tensor out = scope.allocate(
        dtype(problem.out), problem.input.rows(), problem.weight.rows());
    Linear op = Linear.builder()
        .input(tensor(scope, problem.input))
        .weight(tensor(scope, problem.weight))
        .residual(problem.residual == null ? null : tensor(scope, problem.residual))
        .out(out)
        .build(scope);
    return new OpContender<>(scope, op, out::toFloatArray);
  }

  @Override
  public Contender<FfnResult> ffn(FfnProblem problem, int threads) {
    return new FfnContender(open(threads), problem);
  }

  @Override
  public Contender<float[]> kvPropagate(KvPropagateProblem problem, int threads) {
    Scope scope = open(threads);
    int rows = problem.hidden.rows();
    int dim = problem.width() / problem.heads;
    int[] slots = new int[rows];
    for (int r = 0; r < rows; r++) {
      slots[r] = problem.slot(r);
    }
    KvPropagate.Builder builder = KvPropagate.builder()
        .hidden(tensor(scope, problem.hidden))
        .exitLayer(ints(scope, problem.exitLayer))
        .slot(ints(scope, slots))
        .rope(table(scope, problem.table), style(problem.interleaved),
            ints(scope, problem.position))
        .norm(Norm.Kind.RMS, problem.eps)
        .modelLayers(problem.modelLayers);
    CacheLayout layout = new CacheLayout(
        problem.page == 0 ? CacheLayout.Kind.HEAD : CacheLayout.Kind.PAGED, 1, problem.slots,
        problem.page == 0 ? problem.slots : problem.page, problem.heads, dim, 1);
    List<KvCache> caches = new ArrayList<>();
    for (KvPropagateProblem.Layer layer : problem.layers) {
      DType dtype = dtype(layer.kWeight().storage());
      Tensor k = scope.allocate(dtype, layout.elements())
          .copyFrom(new float[layout.elements()]);
      Tensor v = scope.allocate(dtype, layout.elements())
          .copyFrom(new float[layout.elements()]);
      KvCache cache = cache(scope, layout, k, v);
      caches.add(cache);
      builder.layer(KvPropagate.Layer.of(layer.index(), vector(scope, layer.normWeight()),
          tensor(scope, layer.kWeight()), tensor(scope, layer.vWeight()), cache));
    }
    return new OpContender<>(scope, builder.build(scope), () -> owed(problem, layout, caches));
  }

  private static float[] owed(KvPropagateProblem problem, CacheLayout layout,
      List<KvCache> caches) {
    int rows = problem.hidden.rows();
    float[] result = new float[caches.size() * rows * 2 * problem.width()];
    for (int j = 0; j < caches.size(); j++) {
      float[] k = caches.get(j).k().toFloatArray();
      float[] v = caches.get(j).v().toFloatArray();
      for (int r = 0; r < rows; r++) {
        for (int h = 0; h < layout.heads; h++) {
          int from = layout.at(0, problem.slot(r), h);
          int to = problem.at(j, r) + h * layout.dim;
          System.arraycopy(k, from, result, to, layout.dim);
          System.arraycopy(v, from, result, to + problem.width(), layout.dim);
        }
      }
    }
    return result;
  }

  @Override
  public Contender<float[]> attention(AttentionProblem problem, int threads) {
    Scope scope = open(threads);
    CacheLayout layout = problem.layout;
    int rows = problem.query.rows();
    long[] shape = {rows, problem.queryHeads, layout.dim};
    Tensor out = like(scope, problem.query);
    Attention op = Attention.builder()
        .query(tensor(scope, problem.query).reshape(shape))
        .cache(cache(scope, layout, vector(scope, layout.arrange(problem.k)),
            vector(scope, layout.arrange(problem.v))))
        .sequence(layout.sequences == 1 ? null : ints(scope, problem.sequence))
        .visible(ints(scope, problem.visible))
        .scale(problem.scale)
        .scores(problem.scores
            ? scope.allocate(DType.F32, rows, problem.queryHeads, layout.slots) : null)
        .out(out.reshape(shape))
        .build(scope);
    return new OpContender<>(scope, op, out::toFloatArray);
  }

  @Override
  public Contender<float[]> kvCopy(KvCopyProblem problem, int threads) {
    Scope scope = open(threads);
    CacheLayout layout = problem.layout;
    Tensor k = vector(scope, problem.k);
    KvCache source = cache(scope, layout, k, vector(scope, problem.v));
    Tensor copied = problem.inPlace ? k : like(scope, problem.k).reshape(layout.elements());
    KvCache destination = problem.inPlace
        ? source
        : cache(scope, layout, copied, like(scope, problem.v).reshape(layout.elements()));
    Op op = source.copyTo(destination)
        .from(ints(scope, problem.from), null)
        .to(ints(scope, problem.to), null)
        .build(scope);
    return new OpContender<>(scope, op, copied::toFloatArray);
  }

  @Override
  public Contender<float[]> rowCompaction(RowCompactionProblem problem, int threads) {
    Scope scope = open(threads);
    Tensor out = like(scope, problem.input);
    RowCompaction op = (problem.gather ? RowCompaction.gather() : RowCompaction.scatter())
        .input(tensor(scope, problem.input))
        .list(ints(scope, problem.list))
        .out(out)
        .build(scope);
    return new OpContender<>(scope, op, out::toFloatArray);
  }

  static Scope open(int threads) {
    Backend.setThreads(threads);
    return Scope.open();
  }

  static DType dtype(Storage storage) {
    return DType.valueOf(storage.name());
  }

  static Tensor like(Scope scope, Matrix matrix) {
    return scope.allocate(dtype(matrix.storage()), matrix.rows(), matrix.cols());
  }

  static Tensor tensor(Scope scope, Matrix matrix) {
    Tensor tensor = like(scope, matrix);
    matrix.copyTo(tensor.byteBuffer());
    return tensor;
  }

  static Tensor vector(Scope scope, Matrix matrix) {
    return tensor(scope, matrix).reshape(matrix.cols());
  }

  static Tensor ints(Scope scope, int[] values) {
    return scope.copyOf(values, values.length);
  }

  private static Tensor table(Scope scope, Matrix table) {
    return tensor(scope, table).reshape(table.rows(), table.cols() / 2, 2);
  }

  private static Rope.Style style(boolean interleaved) {
    return interleaved ? Rope.Style.INTERLEAVED : Rope.Style.HALF;
  }

  static KvCache cache(Scope scope, CacheLayout layout, Tensor k, Tensor v) {
    long s = layout.sequences;
    long t = layout.slots;
    long h = layout.heads;
    long d = layout.dim;
    switch (layout.kind) {
      case HEAD:
        return KvCache.ofHeadMajor(k.reshape(s, h, t, d), v.reshape(s, h, t, d));
      case TOKEN:
        return KvCache.ofTokenMajor(k.reshape(s, t, h, d), v.reshape(s, t, h, d));
      default:
        long[] shape = {layout.pages(), layout.page, h, d};
        Tensor table = ints(scope, layout.blockTable).reshape(s, t / layout.page);
        return KvCache.ofPages(k.reshape(shape), v.reshape(shape), table);
    }
  }

  /** A block and, where it is asked for, the decision who skips the next one. */
  private static final class FfnContender implements Contender<FfnResult> {
    private final Scope scope;
    private final Ffn op;
    private final FfnSkipRule rule;
    private final Tensor out;
    private final Tensor cosine;

    FfnContender(Scope scope, FfnProblem problem) {
      this.scope = scope;
      int rows = problem.hidden.rows();
      boolean measured = problem.extra != FfnProblem.Extra.NONE;
      out = like(scope, problem.hidden);
      cosine = measured ? scope.allocate(DType.F32, rows) : null;
      Ffn.Builder builder = Ffn.builder()
          .hidden(tensor(scope, problem.hidden))
          .up(tensor(scope, problem.up), optional(problem.upBias))
          .down(tensor(scope, problem.down), optional(problem.downBias))
          .activation(problem.gate == null ? Ffn.Activation.GELU : Ffn.Activation.SILU)
          .out(out)
          .cosine(cosine)
          .branchCosine(measured ? scope.allocate(DType.F32, rows) : null);
      if (problem.gate != null) {
        builder.gate(tensor(scope, problem.gate), null);
      }
      Tensor weight = vector(scope, problem.normWeight);
      if (problem.normBias == null) {
        builder.rmsNorm(weight, problem.eps);
      } else {
        builder.layerNorm(weight, optional(problem.normBias), problem.eps);
      }
      if (problem.skip != null) {
        int[] mask = new int[rows];
        for (int r = 0; r < rows; r++) {
          mask[r] = problem.skip[r] ? 1 : 0;
        }
        builder.skip(scope.allocate(DType.U8, rows).copyFrom(mask));
      }
      op = builder.build(scope);
      rule = problem.extra != FfnProblem.Extra.DECISION ? null : FfnSkipRule.builder()
          .cosine(cosine)
          .state(FfnSkipRule.allocateState(scope, Device.CPU, rows))
          .skip(scope.allocate(DType.U8, rows))
          .modelLayers(30)
          .coldLayers(5, 25)
          .threshold(0.95f)
          .build(scope);
      if (rule != null) {
        rule.run(-1, 0);
      }
    }

    private Tensor optional(Matrix matrix) {
      return matrix == null ? null : vector(scope, matrix);
    }

    @Override
    public Object run() {
      op.run();
      if (rule != null) {
        rule.run(Stream.DEFAULT, 12, 0);
      }
      return out;
    }

    @Override
    public FfnResult result() {
      return new FfnResult(out.toFloatArray(), cosine == null ? null : cosine.toFloatArray());
    }

    @Override
    public void close() {
      scope.close();
    }
  }
}
