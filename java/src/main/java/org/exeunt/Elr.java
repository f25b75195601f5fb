// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_elr_params;
import org.exeunt.jni.global.exeunt;

/**
 * Early-learning regularisation (Liu et al. 2020, and its code): cross-entropy that does not come to
 * memorise wrong labels, since each sample has a target of its own, a running mean of what the
 * network said of it. Targets, loss and gradient in one run.
 *
 * <pre>
 *   p_j = softmax(z)_j    c_j = clamp(p_j, 1e-4, 1 - 1e-4)    t = targets[index[r],:]
 *
 *   t_j    &lt;- beta t_j + (1 - beta) c_j / sum c
 *   loss_r  = -ln p_y + lambda ln(1 - &lt;t,c&gt;)
 *   dz_j    = p_j - [j = y] + lambda p_j (sum_k u_k t_k p_k - u_j t_j) / (1 - &lt;t,c&gt;)
 * </pre>
 *
 * with the new t, which is a constant to the gradient, and u_j = 1, but 0 where the clamp holds p_j:
 * there it passes nothing back, as in the code's automatic differentiation. Fill the targets with 0
 * before the first epoch.
 *
 * <p>{@link CrossEntropy.Reduction#MEAN} divides loss and gradient by the number of labels that are
 * not ignored; if all are, the loss is NaN and the gradient 0. An ignored row has loss 0 and
 * gradient 0. Its target stays, and so does that of a row with a NaN or +inf, or with nothing but
 * -inf, whose loss and gradient are NaN. A label outside the classes that is not the ignored one, an
 * index of no sample, and an index that an earlier row has too, be one of them ignored or not, are
 * an {@link IllegalArgumentException} on the CPU, with nothing written; on CUDA loss and gradient of
 * that row are NaN (and so is the mean) unless it is ignored, and its target stays. Arithmetic is
 * f32. Bytes that must move: {@code R V} logits read, {@code 8 R V} of targets, R labels and
 * indices, and {@code R V} elements written if a gradient is asked for.
 *
 * <p>Errors, threads, alignment: {@link Op}. The gradient may be exactly the logits (in place).
 */
public final class Elr extends Op {
  private Elr(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building: beta 0.7 and lambda 3, the authors' for CIFAR-10; mean, ignored label -100.
   *
   * @return an empty builder
   */
  public static Builder builder() {
    return new Builder();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_elr_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_elr_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_elr(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link Elr}. */
  public static final class Builder extends Op.Builder<Elr> {
    private Tensor logits;
    private Tensor labels;
    private Tensor index;
    private Tensor targets;
    private Tensor loss;
    private Tensor grad;
    private long ignoreIndex = -100;
    private float beta = .7f;
    private float lambda = 3;
    private CrossEntropy.Reduction reduction = CrossEntropy.Reduction.MEAN;

    private Builder() {}

    /**
     * The logits.
     *
     * @param tensor in, [R,V], F32, F16 or BF16, last stride 1; V at least 1, R may be 0
     * @return this
     */
    public Builder logits(Tensor tensor) {
      logits = tensor;
      return this;
    }

    /**
     * The answers that the data give.
     *
     * @param tensor in, [R], I32 or I64, compact
     * @return this
     */
    public Builder labels(Tensor tensor) {
      labels = tensor;
      return this;
    }

    /**
     * The sample of each row.
     *
     * @param tensor in, [R], I32, compact, all different
     * @return this
     */
    public Builder index(Tensor tensor) {
      index = tensor;
      return this;
    }

    /**
     * What the network has said of each sample.
     *
     * @param tensor in and out, [N,V], F32, last stride 1
     * @return this
     */
    public Builder targets(Tensor tensor) {
      targets = tensor;
      return this;
    }

    /**
     * The loss.
     *
     * @param tensor out, optional, [R] for {@link CrossEntropy.Reduction#NONE}, [1] for {@link
     *     CrossEntropy.Reduction#MEAN}; F32, compact
     * @return this
     */
    public Builder loss(Tensor tensor) {
      loss = tensor;
      return this;
    }

    /**
     * The gradient of the loss.
     *
     * @param tensor out, optional, [R,V], dtype of the logits, last stride 1; may be exactly the
     *     logits
     * @return this
     */
    public Builder grad(Tensor tensor) {
      grad = tensor;
      return this;
    }

    /**
     * The label that is left out: loss 0, gradient 0, the target stays.
     *
     * @param label any value, inside the classes or not
     * @return this
     */
    public Builder ignoreIndex(long label) {
      ignoreIndex = label;
      return this;
    }

    /**
     * How much of a target stays.
     *
     * @param share from 0 to 1 (CIFAR-10: 0.7, CIFAR-100 and asymmetric noise: 0.9)
     * @return this
     */
    public Builder beta(float share) {
      beta = share;
      return this;
    }

    /**
     * How much the regulariser weighs; 0 is plain cross-entropy.
     *
     * @param weight 0 or more, finite (CIFAR-10: 3, CIFAR-100: 7, asymmetric noise: 1)
     * @return this
     */
    public Builder lambda(float weight) {
      lambda = weight;
      return this;
    }

    /**
     * How the rows' losses are combined.
     *
     * @param value none or mean
     * @return this
     */
    public Builder reduction(CrossEntropy.Reduction value) {
      reduction = Named.present("reduction", value);
      return this;
    }

    @Override
    Elr create(Place place) {
      return new Elr(
          new Params(exn_elr_params.class)
              .tensor("logits", logits)
              .tensor("labels", labels)
              .tensor("index", index)
              .written("targets", targets)
              .written("loss", loss)
              .written("grad", grad)
              .int64("ignore_index", ignoreIndex)
              .float32("beta", beta)
              .float32("lambda", lambda)
              .int32("reduction", reduction.code),
          place);
    }
  }
}
