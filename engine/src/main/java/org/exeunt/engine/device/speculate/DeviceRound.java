// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.device.speculate;

import java.util.List;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.RowCompaction;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.Workspace;
import org.exeunt.engine.layer.KvState;
import org.exeunt.engine.layer.RopeTables;
import org.exeunt.engine.layer.Rows;
import org.exeunt.engine.model.LlamaWeights;

/**
 * What a round of drafting and verifying has in a GPU's memory, for S sequences and drafts of up to
 * K tokens. Sequence s has rows s * (K + 1) to s * (K + 1) + K: its newest token, then the drafted
 * ones.
 */
final class DeviceRound {
  final Scope scope;
  final Workspace workspace;
  final LlamaWeights weights;
  final KvState kv;
  final RopeTables ropeTables;
  final int sequences;
  final int longest;
  final Rows rows;
  /** The newest token of each sequence, which no layer has seen, [S]. */
  final Tensor token;
  /** How many are before it, [S]: that is its position, too. */
  final Tensor length;
  /** Which sequences take part, [S]. */
  final Tensor active;
  /** [S,K] */
  final Tensor drafted;

  /** What the host reads: the tensors that follow. */
  final Tensor seen;
  /** Tokens that came out, [S,K+1]. */
  final Tensor out;
  final Tensor count;
  final Tensor accepted;
  final Tensor outcome;
  /** How many tokens are drafted, [S]. */
  final Tensor draftLength;

  DeviceRound(Scope scope, Workspace workspace, LlamaWeights weights, KvState kv,
      RopeTables ropeTables, int longest) {
    this.scope = scope;
    this.workspace = workspace;
    this.weights = weights;
    this.kv = kv;
    this.ropeTables = ropeTables;
    this.longest = longest;
    sequences = kv.sequences();
    int each = longest + 1;
    rows = new Rows(scope, weights, sequences * each);
    int[] owner = new int[sequences * each];
    for (int row = 0; row < owner.length; row++) {
      owner[row] = row / each;
    }
    rows.sequence(owner.length).copyFrom(owner);
    token = integers(new int[sequences]);
    length = integers(new int[sequences]);
    active = scope.allocate(device(), DType.U8, sequences).copyFrom(new int[sequences]);
    drafted = integers(new int[sequences * longest]).reshape(sequences, longest);
    seen = integers(new int[sequences * (each + 4)]);
    long end = (long) sequences * each;
    out = seen.slice(0, 0, end).reshape(sequences, each);
    count = seen.slice(0, end, end + sequences);
    accepted = seen.slice(0, end + sequences, end + 2L * sequences);
    outcome = seen.slice(0, end + 2L * sequences, end + 3L * sequences);
    draftLength = seen.slice(0, end + 3L * sequences, end + 4L * sequences);
  }

  Device device() {
    return weights.device();
  }

  /** How many rows there are. */
  int count() {
    return sequences * (longest + 1);
  }

  Tensor integers(int... values) {
    return scope.allocate(device(), DType.I32, values.length).copyFrom(values);
  }

  /**
   * A copy of one row for each sequence to rows of something else.
   *
   * @param from [S,...]
   * @param each rows of a sequence in {@code to}
   * @param first which of them
   */
  RowCompaction place(Tensor from, Tensor to, int each, int first) {
    int[] list = new int[sequences];
    for (int s = 0; s < sequences; s++) {
      list[s] = s * each + first;
    }
    return RowCompaction.scatter().input(from).list(integers(list)).out(to).build(scope, workspace);
  }

  /** What gives all layers of a cache the length that the round has left. */
  RowCompaction keep(KvState of) {
    Tensor lengths = of.lengths();
    return RowCompaction.gather()
        .input(length.reshape(1, sequences))
        .list(integers(new int[(int) lengths.size(0)]))
        .out(lengths)
        .build(scope, workspace);
  }

  /** What gives the rows their tokens: the newest of each sequence, and the drafted ones. */
  List<RowCompaction> placeTokens() {
    Tensor tokens = rows.token(count()).reshape(count(), 1);
    int[] list = new int[sequences * longest];
    for (int i = 0; i < list.length; i++) {
      list[i] = i / longest * (longest + 1) + 1 + i % longest;
    }
    RowCompaction others =
        RowCompaction.scatter()
            .input(drafted.reshape(list.length, 1))
            .list(integers(list))
            .out(tokens)
            .build(scope, workspace);
    return List.of(place(token.reshape(sequences, 1), tokens, longest + 1, 0), others);
  }
}
