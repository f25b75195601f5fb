// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/** The norm in front of an op, as its builder collects it. */
final class InputNorm {
  private Norm.Kind kind = Norm.Kind.NONE;
  private Tensor weight;
  private Tensor bias;
  private float eps;

  void set(Norm.Kind which, Tensor normWeight, Tensor normBias) {
    kind = which;
    weight = normWeight;
    bias = normBias;
  }

  void eps(float value) {
    eps = value;
  }

  void write(Params params) {
    params.tensor("norm_weight", weight)
        .tensor("norm_bias", bias)
        .int32("norm", kind.code)
        .float32("norm_eps", eps);
  }
}
