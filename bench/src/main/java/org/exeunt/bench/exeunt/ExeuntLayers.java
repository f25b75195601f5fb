// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.exeunt;

import java.util.ArrayList;
import java.util.List;
import java.util.function.IntFunction;
import java.util.stream.IntStream;
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
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Contenders;
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
abstract class ExeuntLayers extends Contenders {
  /** Of the large operands that a step streams; each run takes the next. */
  final int copies;

  ExeuntLayers(int copies) {
    this.copies = copies;
    offer("norm", this::norm);
    offer("rope", this::rope);
    offer("linear", this::linear);
    offer("ffn", this::ffn);
    offer("kv_propagate", this::kvPropagate);
    offer("attention", this::attention);
    offer("kv_copy", this::kvCopy);
    offer("row_compaction", this::rowCompaction);
  }

  /** Built for each copy. */
  final Turns turns(IntFunction<Op> op) {
    return new Turns(copies, op);
  }

  private Contender<float[]> norm(NormProblem problem, int threads) {
    Scope scope = open(threads);
    Tensor out = like(scope, problem.input);
    Norm.Builder builder = Norm.builder().input(tensor(scope, problem.input)).out(out);
    Tensor weight = vector(scope, problem.weight);
    Norm op = (problem.bias == null
            ? builder.rms(weight, problem.eps)
            : builder.layer(weight, vector(scope, problem.bias), problem.eps))
                  .build(scope);
    return new OpContender<>(scope, op, out::toFloatArray);
  }

  private Contender<float[]> rope(RopeProblem problem, int threads) {
    Scope scope = open(threads);
    long[] shape = {problem.input.rows(), problem.heads, problem.dim()};
    Tensor out = like(scope, problem.input);
    Rope op =
        Rope.builder()
            .input(tensor(scope, problem.input).reshape(shape))
            .position(ints(scope, problem.position))
            .table(table(scope, problem.table), style(problem.interleaved))
            .out(out.reshape(shape))
            .build(scope);
    return new OpContender<>(scope, op, out::toFloatArray);
  }

  private Contender<float[]> linear(LinearProblem problem, int threads) {
    Scope scope = open(threads);
    Tensor out = scope.allocate(dtype(problem.out), problem.input.rows(), problem.weight.rows());
    Tensor input = tensor(scope, problem.input);
    Tensor residual = problem.residual == null ? null : tensor(scope, problem.residual);
    Copies weight = new Copies(scope, copies, problem.weight);
    Turns turns = turns(copy
        -> Linear.builder()
            .input(input)
            .weight(weight.tensor(copy, 0))
            .residual(residual)
            .out(out)
            .build(scope));
    return new OpContender<>(scope, turns, out::toFloatArray);
  }

  private Contender<FfnResult> ffn(FfnProblem problem, int threads) {
    return new FfnContender(open(threads), problem, copies);
  }

  private Contender<float[]> kvPropagate(KvPropagateProblem problem, int threads) {
    Scope scope = open(threads);
    int rows = problem.hidden.rows();
    int dim = problem.width() / problem.heads;
    int[] slots = new int[rows];
    for (int r = 0; r < rows; r++) {
      slots[r] = problem.slot(r);
    }
    Tensor hidden = tensor(scope, problem.hidden);
    Tensor exitLayer = ints(scope, problem.exitLayer);
    Tensor slot = ints(scope, slots);
    Tensor table = table(scope, problem.table);
    Tensor position = ints(scope, problem.position);
    CacheLayout layout = new CacheLayout(
        problem.page == 0 ? CacheLayout.Kind.HEAD : CacheLayout.Kind.PAGED, 1, problem.slots,
        problem.page == 0 ? problem.slots : problem.page, problem.heads, dim, 1);
    List<KvCache> caches = new ArrayList<>();
    List<Tensor> norms = new ArrayList<>();
    List<Matrix> matrices = new ArrayList<>();
    for (KvPropagateProblem.Layer layer : problem.layers) {
      DType dtype = dtype(layer.kWeight().storage());
      Tensor k = scope.allocate(dtype, layout.elements()).copyFrom(new float[layout.elements()]);
      Tensor v = scope.allocate(dtype, layout.elements()).copyFrom(new float[layout.elements()]);
      caches.add(cache(scope, layout, k, v));
      norms.add(vector(scope, layer.normWeight()));
      matrices.add(layer.kWeight());
      matrices.add(layer.vWeight());
    }
    Copies weights = new Copies(scope, copies, matrices.toArray(Matrix[] ::new));
    Turns turns = turns(copy -> {
      KvPropagate.Builder builder =
          KvPropagate.builder()
              .hidden(hidden)
              .exitLayer(exitLayer)
              .slot(slot)
              .rope(table, style(problem.interleaved), position)
              .norm(Norm.Kind.RMS, problem.eps)
              .modelLayers(problem.modelLayers);
      for (int j = 0; j < problem.layers.length; j++) {
        builder.layer(KvPropagate.Layer.of(problem.layers[j].index(), norms.get(j),
            weights.tensor(copy, 2 * j), weights.tensor(copy, 2 * j + 1), caches.get(j)));
      }
      return builder.build(scope);
    });
    return new OpContender<>(scope, turns, () -> owed(problem, layout, caches));
  }

  private static float[] owed(
      KvPropagateProblem problem, CacheLayout layout, List<KvCache> caches) {
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

  private Contender<float[]> attention(AttentionProblem problem, int threads) {
    Scope scope = open(threads);
    CacheLayout layout = problem.layout;
    int rows = problem.query.rows();
    long[] shape = {rows, problem.queryHeads, layout.dim};
    Tensor out = like(scope, problem.query);
    Tensor query = tensor(scope, problem.query).reshape(shape);
    Tensor sequence = layout.sequences == 1 ? null : ints(scope, problem.sequence);
    Tensor visible = ints(scope, problem.visible);
    Tensor scores =
        problem.scores ? scope.allocate(DType.F32, rows, problem.queryHeads, layout.slots) : null;
    Copies cached = new Copies(scope, copies, layout.arrange(problem.k), layout.arrange(problem.v));
    Turns turns = turns(copy
        -> Attention.builder()
            .query(query)
            .cache(cache(scope, layout, cached.vector(copy, 0), cached.vector(copy, 1)))
            .sequence(sequence)
            .visible(visible)
            .scale(problem.scale)
            .scores(scores)
            .out(out.reshape(shape))
            .build(scope));
    return new OpContender<>(scope, turns, out::toFloatArray);
  }

  private Contender<float[]> kvCopy(KvCopyProblem problem, int threads) {
    Scope scope = open(threads);
    CacheLayout layout = problem.layout;
    Copies sources = new Copies(scope, copies, problem.k, problem.v);
    Copies destinations = problem.inPlace
        ? sources
        : new Copies(scope, copies, Matrix.zeros(1, layout.elements(), problem.k.storage()),
              Matrix.zeros(1, layout.elements(), problem.v.storage()));
    Tensor from = ints(scope, problem.from);
    Tensor to = ints(scope, problem.to);
    Turns turns = turns(copy -> {
      KvCache source = cache(scope, layout, sources.vector(copy, 0), sources.vector(copy, 1));
      KvCache destination = problem.inPlace
          ? source
          : cache(scope, layout, destinations.vector(copy, 0), destinations.vector(copy, 1));
      return source.copyTo(destination).from(from, null).to(to, null).build(scope);
    });
    return new OpContender<>(
        scope, turns, () -> destinations.vector(turns.last(), 0).toFloatArray());
  }

  private Contender<float[]> rowCompaction(RowCompactionProblem problem, int threads) {
    Scope scope = open(threads);
    Tensor out = like(scope, problem.input);
    RowCompaction op =
        (problem.gather ? RowCompaction.gather() : RowCompaction.scatter())
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
    private final Turns turns;
    private final FfnSkipRule rule;
    private final Tensor out;
    private final Tensor cosine;

    FfnContender(Scope scope, FfnProblem problem, int copies) {
      this.scope = scope;
      int rows = problem.hidden.rows();
      boolean measured = problem.extra != FfnProblem.Extra.NONE;
      out = like(scope, problem.hidden);
      cosine = measured ? scope.allocate(DType.F32, rows) : null;
      Tensor branchCosine = measured ? scope.allocate(DType.F32, rows) : null;
      Tensor hidden = tensor(scope, problem.hidden);
      Tensor upBias = optional(problem.upBias);
      Tensor downBias = optional(problem.downBias);
      Tensor weight = vector(scope, problem.normWeight);
      Tensor bias = optional(problem.normBias);
      Tensor skip = problem.skip == null
          ? null
          : scope.allocate(DType.U8, rows)
                .copyFrom(IntStream.range(0, rows).map(r -> problem.skip[r] ? 1 : 0).toArray());
      Copies matrices = problem.gate == null
          ? new Copies(scope, copies, problem.up, problem.down)
          : new Copies(scope, copies, problem.up, problem.down, problem.gate);
      turns = new Turns(copies, copy -> {
        Ffn.Builder builder =
            Ffn.builder()
                .hidden(hidden)
                .up(matrices.tensor(copy, 0), upBias)
                .down(matrices.tensor(copy, 1), downBias)
                .activation(problem.gate == null ? Ffn.Activation.GELU : Ffn.Activation.SILU)
                .out(out)
                .cosine(cosine)
                .branchCosine(branchCosine)
                .skip(skip);
        if (problem.gate != null) {
          builder.gate(matrices.tensor(copy, 2), null);
        }
        return (problem.normBias == null
                ? builder.rmsNorm(weight, problem.eps)
                : builder.layerNorm(weight, bias, problem.eps))
            .build(scope);
      });
      rule = problem.extra != FfnProblem.Extra.DECISION
          ? null
          : FfnSkipRule.builder()
                .cosine(cosine)
                .state(FfnSkipRule.allocateState(scope, Device.CPU, rows))
                .skip(scope.allocate(DType.U8, rows))
                .modelLayers(30)
                .coldLayers(5, 25)
                .warmUp(0)
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
      turns.run();
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
