// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model;

import java.util.ArrayList;
import java.util.List;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;

/** Copies weights to a device, queued on its default stream. */
public final class WeightCopies {
  private final Scope scope;
  private final Device device;

  public WeightCopies(Scope scope, Device device) {
    this.scope = scope;
    this.device = device;
  }

  /** A copy; null of null. */
  public Tensor of(Tensor tensor) {
    return tensor == null
        ? null
        : scope.allocate(device, tensor.dtype(), tensor.shape()).copyFrom(tensor, Stream.DEFAULT);
  }

  Weight of(Weight weight) {
    return new Weight(of(weight.tensor()), weight.blocks(), weight.columns());
  }

  /** Copies that lie one below the other, where all are of one kind. */
  List<Weight> together(Weight... weights) {
    Tensor first = weights[0].tensor();
    long rows = 0;
    boolean alike = true;
    for (Weight weight : weights) {
      rows += weight.rows();
      alike &= weight.blocks() == weights[0].blocks() && weight.tensor().dtype() == first.dtype();
    }
    List<Weight> copies = new ArrayList<>();
    if (!alike) {
      for (Weight weight : weights) {
        copies.add(of(weight));
      }
      return copies;
    }
    Tensor whole = scope.allocate(device, first.dtype(), rows, first.size(1));
    long begin = 0;
    for (Weight weight : weights) {
      Tensor part = whole.rows(begin, begin += weight.rows());
      part.copyFrom(weight.tensor(), Stream.DEFAULT);
      copies.add(new Weight(part, weight.blocks(), weight.columns()));
    }
    return copies;
  }
}
