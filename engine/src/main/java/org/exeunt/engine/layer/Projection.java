// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.layer;

import java.util.ArrayList;
import java.util.List;
import org.exeunt.Linear;
import org.exeunt.Norm;
import org.exeunt.Rope;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.Workspace;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.Weight;

/** From hidden states to what attention takes: queries, keys and values, or the last two alone. */
public final class Projection {
  private final Norm norm;
  private final List<Linear> projections = new ArrayList<>(); // one if the matrices lie together
  private final List<Norm> headNorms = new ArrayList<>();
  private final Rope rope;

  /**
   * @param hidden [R,D]
   * @param position [R]
   * @param normed [R,D], scratch
   * @param projected [R, (H + 2 Hkv) dh], or [R, 2 Hkv dh] without queries
   */
  public Projection(Scope scope, Workspace workspace, LlamaConfig config, LlamaWeights.Layer layer,
      Tensor ropeTable, Tensor hidden, Tensor position, Tensor normed, Tensor projected) {
    int width = config.headWidth();
    long skipped = config.queryKeyValueWidth() - projected.size(1);
    int queries = skipped == 0 ? config.heads() : 0;
    norm =
        Norm.builder()
            .input(hidden)
            .rms(layer.attentionNorm(), config.epsilon())
            .out(normed)
            .build(scope, workspace);
    List<Weight> parts = new ArrayList<>(List.of(layer.key(), layer.value()));
    if (queries > 0) {
      parts.add(0, layer.query());
    }
    for (int i = 0; i + 1 < parts.size();) {
      Weight both = parts.get(i).joined(parts.get(i + 1));
      if (both == null) {
        i++;
      } else {
        parts.set(i, both);
        parts.remove(i + 1);
      }
    }
    long begin = 0;
    for (Weight part : parts) {
      long end = begin + part.rows();
      projections.add(part.product()
              .input(normed)
              .bias(layer.bias() == null ? null
                                         : layer.bias().slice(0, skipped + begin, skipped + end))
              .out(projected.slice(1, begin, end))
              .build(scope, workspace));
      begin = end;
    }
    int turning = queries + config.kvHeads();
    for (int head = 0; head < turning && layer.keyNorm() != null; head++) {
      Tensor one = projected.slice(1, (long) head * width, (head + 1L) * width);
      headNorms.add(Norm.builder()
              .input(one)
              .rms(head < queries ? layer.queryNorm() : layer.keyNorm(), config.epsilon())
              .out(one)
              .build(scope, workspace));
    }
    Tensor rotated = Rows.heads(projected, 0, turning, width); // queries and keys lie side by side
    rope =
        Rope.builder()
            .input(rotated)
            .position(position)
            .table(ropeTable, config.architecture().ropeStyle())
            .out(rotated)
            .build(scope, workspace);
  }

  public void run(Stream stream) {
    norm.run(stream);
    for (int i = 0; i < projections.size(); i++) { // without an iterator: a step allocates nothing
      projections.get(i).run(stream);
    }
    for (int i = 0; i < headNorms.size(); i++) {
      headNorms.get(i).run(stream);
    }
    rope.run(stream);
  }
}
