// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.exeunt.jni.exn_layer_schedule_params;
import org.exeunt.jni.global.exeunt;
import org.jspecify.annotations.Nullable;

/**
 * Which layers each sequence position runs, tabulated once on the host. Copied to a device, the
 * tables let a captured decode step look its layers up by position.
 *
 * <pre>
 *   layers[t, 0 .. count[t]-1]   the layers position t runs, in the order of running; -1 beyond
 *   exitTest[t,l]                1 if position t asks its exit rule after layer l
 *   threshold[t]                 the exit threshold at position t
 * </pre>
 *
 * <p>{@link #skipDecode}, {@link #calm}, {@link #fixed} and {@link #unified} choose the schedule;
 * {@link Builder#table} then returns it on the heap, or the op writes it to tensors of the CPU.
 *
 * <p>Bytes that must move: the tables'. Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class LayerSchedule extends Op {
  /** Of a table: their bytes fit a buffer. */
  private static final int MOST_ENTRIES = Integer.MAX_VALUE / Integer.BYTES;

  private LayerSchedule(Params params, Place place) {
    super(params, place);
  }

  /**
   * SkipDecode (Del Corro et al. 2023; a reconstruction, the authors published no code): the layers
   * 0 to {@code warmUp - 1} and the top {@code E(t) - warmUp}. E is {@code most} for t up to the
   * prompt, falls linearly to {@code least} at the horizon and stays there, rounded to the nearest
   * integer, halves away from zero. The lists never grow and are anchored at the top: every K and V
   * that a later position needs is there.
   *
   * @param prompt prompt length, 0 or more
   * @param horizon where the fall ends, beyond the prompt
   * @param most {@code least} to L
   * @param least at least 1 and {@code warmUp}
   * @param warmUp bottom layers that always run, 0 to {@code least}
   * @return a builder
   */
  public static Builder skipDecode(int prompt, int horizon, int most, int least, int warmUp) {
    Builder builder = new Builder(exeunt.EXN_SCHEDULE_SKIPDECODE, prompt);
    builder.horizon = horizon;
    builder.most = most;
    builder.least = least;
    builder.warmUp = warmUp;
    return builder;
  }

  /**
   * CALM (Schuster et al. 2022): all layers; exit tests after {@code firstExit}, {@code firstExit +
   * interval} and so on, below L - 1 and not before {@code minExit}.
   *
   * @param firstExit the first layer with a test, 0 or more
   * @param interval layers from test to test, 1 or more
   * @param minExit no test before this layer, 0 or more
   * @return a builder; {@link Builder#threshold(float, ExitRule.Decay, int, int, float)} tabulates
   *     thresholds
   */
  public static Builder calm(int firstExit, int interval, int minExit) {
    Builder builder = new Builder(exeunt.EXN_SCHEDULE_CALM, 0);
    builder.firstExit = firstExit;
    builder.interval = interval;
    builder.minExit = minExit;
    return builder;
  }

  /**
   * The same layers at every position, in the given order (SkipPipe).
   *
   * @param order distinct layers from 0 to L - 1, at least one
   * @return a builder
   */
  public static Builder fixed(int... order) {
    Builder builder = new Builder(exeunt.EXN_SCHEDULE_FIXED, 0);
    if (Named.present("order", order).length > MOST_ENTRIES) {
      throw new IllegalArgumentException(
          "order has " + order.length + " entries, expected at most " + MOST_ENTRIES);
    }
    builder.order = Heap.of(DType.I32, order.length);
    builder.order.bytes.asIntBuffer().put(order);
    return builder;
  }

  /**
   * Unified Layer Skipping (Liu et al. 2024): evenly spaced layers, the first and the last among
   * them, {@code round(i (L-1) / (count-1))}; a count of 1 keeps the last. Positions of the prompt
   * run every layer.
   *
   * @param prompt prompt length, 0 or more
   * @param count layers to run, 1 to L
   * @return a builder
   */
  public static Builder unified(int prompt, int count) {
    Builder builder = new Builder(exeunt.EXN_SCHEDULE_UNIFIED, prompt);
    builder.least = count;
    return builder;
  }

  @Override
  int supported(long params) {
    return exeunt.exn_layer_schedule_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_layer_schedule_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_layer_schedule(params, workspace, workspaceBytes, stream);
  }

  /** A schedule on the heap. Immutable. */
  public static final class Table {
    private final int[][] layers;
    private final boolean[][] exitTest;
    private final float[] threshold;

    private Table(int[][] layers, boolean[][] exitTest, float[] threshold) {
      this.layers = layers;
      this.exitTest = exitTest;
      this.threshold = threshold;
    }

    /**
     * Number of positions.
     *
     * @return T
     */
    public int positions() {
      return layers.length;
    }

    /**
     * The layers of a position.
     *
     * @param position 0 to T - 1
     * @return a copy, in the order of running
     * @throws IndexOutOfBoundsException if there is no such position
     */
    public int[] layers(int position) {
      return layers[at(position)].clone();
    }

    /**
     * How many layers a position runs.
     *
     * @param position 0 to T - 1
     * @return the length of {@link #layers}
     * @throws IndexOutOfBoundsException if there is no such position
     */
    public int count(int position) {
      return layers[at(position)].length;
    }

    /**
     * Whether a position asks its exit rule after a layer.
     *
     * @param position 0 to T - 1
     * @param layer 0 to L - 1
     * @return false everywhere unless the schedule is CALM's
     * @throws IndexOutOfBoundsException if there is no such position or layer
     */
    public boolean exitTest(int position, int layer) {
      boolean[] ofPosition = exitTest[at(position)];
      if (layer < 0 || layer >= ofPosition.length) {
        throw new IndexOutOfBoundsException(
            "layer " + layer + " of a schedule of " + ofPosition.length + " layers");
      }
      return ofPosition[layer];
    }

    /**
     * The exit threshold at a position.
     *
     * @param position 0 to T - 1
     * @return the threshold, or NaN unless the schedule is CALM's
     * @throws IndexOutOfBoundsException if there is no such position
     */
    public float threshold(int position) {
      return threshold[at(position)];
    }

    private int at(int position) {
      if (position < 0 || position >= layers.length) {
        throw new IndexOutOfBoundsException(
            "position " + position + " of a schedule of " + layers.length + " positions");
      }
      return position;
    }
  }

  /** Memory that the garbage collector frees, and the tensor over it. */
  private record Heap(ByteBuffer bytes, Tensor tensor) {
    static Heap of(DType dtype, long... shape) {
      int size = Math.toIntExact(Tensor.byteSize(dtype, shape));
      ByteBuffer bytes = ByteBuffer.allocateDirect(size).order(ByteOrder.nativeOrder());
      return new Heap(bytes, Tensor.of(bytes, dtype, shape));
    }
  }

  /** Arguments of {@link LayerSchedule}. */
  public static final class Builder extends Op.Builder<LayerSchedule> {
    private final int kind;
    private int prompt;
    private int horizon = 1;
    private int most;
    private int least;
    private int warmUp;
    private int firstExit;
    private int minExit;
    private int interval = 1;
    private ExitRule.Decay decay = ExitRule.Decay.NONE;
    private float startThreshold;
    private float tau;
    private Heap order;
    private Tensor layers;
    private Tensor count;
    private Tensor exitTest;
    private Tensor threshold;

    private Builder(int kind, int prompt) {
      this.kind = kind;
      this.prompt = prompt;
    }

    /**
     * The thresholds of {@link #calm}, decayed over {@code t - prompt}; 0 everywhere if left out.
     *
     * @param start the threshold at the prompt's end, finite
     * @param how the formula
     * @param promptLength prompt length, 0 or more
     * @param length T of the decay, at least 1: the longest output in tokens
     * @param rate its tau, 0 or more, finite (CALM: 4)
     * @return this
     * @throws IllegalArgumentException if the schedule is not CALM's
     */
    public Builder threshold(
        float start, ExitRule.Decay how, int promptLength, int length, float rate) {
      if (kind != exeunt.EXN_SCHEDULE_CALM) { // whose prompt and horizon would be lost
        throw new IllegalArgumentException(
            "layer_schedule: thresholds are given, but the schedule is not CALM's");
      }
      startThreshold = start;
      decay = Named.present("decay", how);
      prompt = promptLength;
      horizon = length;
      tau = rate;
      return this;
    }

    /**
     * The layers of each position.
     *
     * @param tensor out, [T,L], I32, compact, on the CPU; L is 1 to 2^20
     * @return this
     */
    public Builder layers(Tensor tensor) {
      layers = tensor;
      return this;
    }

    /**
     * How many layers each position runs.
     *
     * @param tensor out, [T], I32, compact
     * @return this
     */
    public Builder count(Tensor tensor) {
      count = tensor;
      return this;
    }

    /**
     * After which layers each position asks its exit rule.
     *
     * @param tensor out, optional, [T,L], U8, compact
     * @return this
     */
    public Builder exitTest(@Nullable Tensor tensor) {
      exitTest = tensor;
      return this;
    }

    /**
     * The exit threshold at each position; CALM only.
     *
     * @param tensor out, optional, [T], F32, compact
     * @return this
     */
    public Builder threshold(@Nullable Tensor tensor) {
      threshold = tensor;
      return this;
    }

    /**
     * Computes the schedule on the heap; the builder's tensors are left alone.
     *
     * @param positions T, 0 or more
     * @param modelLayers L, 1 to 2^20
     * @return the schedule
     * @throws IllegalArgumentException if a parameter of the schedule is wrong, naming it, or if
     *     {@code T L} is above 2^29 - 1
     */
    public Table table(int positions, int modelLayers) {
      Native.require();
      if (positions > 0 && (long) positions * Math.max(1, modelLayers) > MOST_ENTRIES) {
        throw new IllegalArgumentException(positions + " positions and " + modelLayers
            + " model layers, but a table on the heap has at most " + MOST_ENTRIES + " entries");
      }
      Heap lists = Heap.of(DType.I32, positions, modelLayers);
      Heap counts = Heap.of(DType.I32, positions);
      Heap tests = Heap.of(DType.U8, positions, modelLayers);
      Heap thresholds = Heap.of(DType.F32, positions);
      boolean calm = kind == exeunt.EXN_SCHEDULE_CALM;
      try (LayerSchedule op = create(new Place(null, null), lists.tensor, counts.tensor,
               tests.tensor, calm ? thresholds.tensor : null)) {
        op.run();
      }
      int[][] run = new int[positions][];
      boolean[][] asks = new boolean[positions][modelLayers];
      float[] limits = new float[positions];
      for (int t = 0; t < positions; t++) {
        run[t] = new int[counts.bytes.getInt(t * Integer.BYTES)];
        lists.bytes.asIntBuffer().get(t * modelLayers, run[t]);
        for (int layer = 0; layer < modelLayers; layer++) {
          asks[t][layer] = tests.bytes.get(t * modelLayers + layer) != 0;
        }
        limits[t] = calm ? thresholds.bytes.getFloat(t * Float.BYTES) : Float.NaN;
      }
      return new Table(run, asks, limits);
    }

    @Override
    LayerSchedule create(Place place) {
      return create(place, layers, count, exitTest, threshold);
    }

    private LayerSchedule create(
        Place place, Tensor lists, Tensor counts, Tensor tests, Tensor thresholds) {
      return new LayerSchedule(
          new Params(exn_layer_schedule_params.class)
              .written("layers", lists)
              .written("count", counts)
              .written("exit_test", tests)
              .written("threshold", thresholds)
              .tensor("order", order == null ? null : order.tensor)
              .int32("kind", kind)
              .int32("prompt", prompt)
              .int32("horizon", horizon)
              .int32("most", most)
              .int32("least", least)
              .int32("warm_up", warmUp)
              .int32("first_exit", firstExit)
              .int32("min_exit", minExit)
              .int32("interval", interval)
              .int32("decay", decay.code)
              .float32("start_threshold", startThreshold)
              .float32("tau", tau),
          place);
    }
  }
}
