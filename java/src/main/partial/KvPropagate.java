// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.ArrayList;
import java.util.List;
import org.exeunt.jni.exn_kv_layer;
import org.jspecify.annotations.Nullable;

/**
 * The keys and values that rows which left early still owe the layers above, in one call (the
 * state propagation of CALM and FREE).
 *
 * <p>A row that ran the layers 0 to e - 1 and left with hidden state h owes K and V to every layer
 * j from e on. For each listed layer j and each row r with {@code 0 <= exitLayer[r] <= j}:
 *
 * <pre>
 *   x = norm_j(h),  K = RoPE(Wk_j x + bk_j, position[r]),  V = Wv_j x + bv_j
 *   cache_j[sequence[r], slot[j,r]] = K, V
 * </pre>
 *
 * <p>and nothing else: no query, no softmax, no output projection, no feed-forward block (t5x
 * passes the state of the first exit instead, against its own comment; this follows the comment).
 * Rows with {@code exitLayer} -1 have not left and are untouched, as are a row that ran all L
 * layers ({@code exitLayer} L: it owes nothing) and one whose slot is -1. The other ids of a
 * row that owes a layer nothing may be anything.
 *
 * <p>When hidden and weights are both BF16 (or both F16), x is rounded to that type before the
 * products, as in {@link ExitHead}; otherwise x stays f32. Products are accumulated in f32, and a
 * row's result does not depend on the other rows. Where they are BF16, the CPU may sum the exact
 * products in pairs, which takes subnormal elements, products and sums for 0. Quantised weights
 * ({@link Layer#withBlocks}) meet an f32 x that is rounded as in {@link Linear}, whose bound holds for
 * each product. Ids out of range and
 * slots that are written twice: {@link KvAppend}. A position outside the table, or an {@code
 * exitLayer} outside -1 to L, is an {@link IllegalArgumentException} on the CPU, with nothing
 * written; on CUDA, where a run cannot read them, such a row is switched off.
 *
 * <p>Bytes that must move: Wk and Wv of each listed layer that some row owes, once for each block
 * of up to 64 rows; {@code 2 Hkv dh} elements written for each row and layer owed.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}. The caches of all layers are distinct
 * memory.
 */
public final class KvPropagate extends Op {
  /** Most layers of one op. */
  public static final int MAX_LAYERS = exeunt.EXN_KV_PROPAGATE_MAX_LAYERS;

  /**
   * One layer that rows may owe. All layers of an op share dtypes, D, Hkv, dh and the caches'
   * layout and S;
   * their weights all have blocks, of whatever formats, or none has.
   *
   * @param index the layer's number j, 0 to L - 1
   * @param normWeight in, [D], F32, compact; null without a norm
   * @param normBias in, optional, [D], F32, compact; LayerNorm only
   * @param kWeight in, [Hkv dh,D], F32, F16 or BF16, or blocks in a U8 tensor, last stride 1
   * @param kBias in, optional, [Hkv dh], F32, compact
   * @param vWeight in, [Hkv dh,D], dtype of {@code kWeight}, or blocks if that has some, last stride 1
   * @param vBias in, optional, [Hkv dh], F32, compact
   * @param cache in and out
   * @param kBlocks what blocks the rows of {@code kWeight} are made of; null: elements of its type
   * @param vBlocks the same of {@code vWeight}
   */
  public record Layer(int index, @Nullable Tensor normWeight, @Nullable Tensor normBias,
      Tensor kWeight, @Nullable Tensor kBias, Tensor vWeight, @Nullable Tensor vBias, KvCache cache,
      @Nullable BlockFormat kBlocks, BlockFormat vBlocks) {
    /**
     * A layer without biases.
     *
     * @param index the layer's number j, 0 to L - 1
     * @param normWeight in, [D], F32, compact; null without a norm
     * @param kWeight in, [Hkv dh,D], F32, F16 or BF16, last stride 1
     * @param vWeight in, [Hkv dh,D], dtype of {@code kWeight}, last stride 1
     * @param cache in and out
     * @return the layer
     */
    public static Layer of(
        int index, @Nullable Tensor normWeight, Tensor kWeight, Tensor vWeight, KvCache cache) {
      return new Layer(index, normWeight, null, kWeight, null, vWeight, null, cache, null, null);
    }

    /**
     * This layer with biases of K and V.
     *
     * @param k in, optional, [Hkv dh], F32, compact
     * @param v in, optional, [Hkv dh], F32, compact
     * @return a new layer
     */
    public Layer withBias(@Nullable Tensor k, @Nullable Tensor v) {
      return new Layer(
          index, normWeight, normBias, kWeight, k, vWeight, v, cache, kBlocks, vBlocks);
    }

    /**
     * This layer with quantised weights.
     *
     * @param k the format of {@code kWeight}
     * @param v the format of {@code vWeight}
     * @return a new layer
     */
    public Layer withBlocks(BlockFormat k, BlockFormat v) {
      return new Layer(index, normWeight, normBias, kWeight, kBias, vWeight, vBias, cache, k, v);
    }

    /**
     * This layer with a bias of its LayerNorm.
     *
     * @param bias in, optional, [D], F32, compact
     * @return a new layer
     */
    public Layer withNormBias(@Nullable Tensor bias) {
      return new Layer(
          index, normWeight, bias, kWeight, kBias, vWeight, vBias, cache, kBlocks, vBlocks);
    }
  }

  public static final class Builder extends Op.Builder<KvPropagate> {
    private Rope.Style ropeStyle = Rope.Style.HALF;
    private Norm.Kind norm = Norm.Kind.NONE;
    private final List<Layer> layers = new ArrayList<>();

    /**
     * Rotates the keys; left out, they are not rotated.
     *
     * @param table in, [T,n/2,2], F32, compact; see {@link RopeTable}
     * @param style which elements are a pair
     * @param positions in, [R], I32, compact, entries from 0 to T - 1
     * @return this
     */
    public Builder rope(Tensor table, Rope.Style style, Tensor positions) {
      ropeTable = table;
      ropeStyle = Named.present("style", style);
      position = positions;
      return this;
    }

    /**
     * The norm in front of every layer's projections; its weights are the layers'.
     *
     * @param kind which
     * @param eps added to the mean square or the variance, 0 or more, finite
     * @return this
     */
    public Builder norm(Norm.Kind kind, float eps) {
      norm = Named.present("norm", kind);
      normEps = eps;
      return this;
    }

    /**
     * Adds a layer.
     *
     * @param layer its index is larger than those before
     * @return this
     */
    public Builder layer(Layer layer) {
      layers.add(Named.present("layer", layer));
      return this;
    }

    /**
     * Lists the layers, in the place of those before.
     *
     * @param list by ascending index, 1 to {@value KvPropagate#MAX_LAYERS} of them
     * @return this
     */
    public Builder layers(List<Layer> list) {
      Named.present("layers", list);
      for (int i = 0; i < list.size(); i++) {
        Named.present("layers[" + i + "]", list.get(i));
      }
      layers.clear();
      layers.addAll(list);
      return this;
    }

    private void writeRest(Params params) {
      params.int32("layer_count", layers.size());
      List<Params> structs = params.array("layers", exn_kv_layer.class, layers.size());
      for (int i = 0; i < layers.size(); i++) {
        write(layers.get(i), structs.get(i));
      }
    }

    private static void write(Layer layer, Params params) {
      params.tensor("norm_weight", layer.normWeight)
          .tensor("norm_bias", layer.normBias)
          .tensor("k_weight", layer.kWeight)
          .tensor("k_bias", layer.kBias)
          .tensor("v_weight", layer.vWeight)
          .tensor("v_bias", layer.vBias)
          .int32("index", layer.index)
          .int32("k_blocks", BlockFormat.tagOf(layer.kBlocks))
          .int32("v_blocks", BlockFormat.tagOf(layer.vBlocks));
      KvCache.write(layer.cache, params, "cache", true);
    }
  }
}
