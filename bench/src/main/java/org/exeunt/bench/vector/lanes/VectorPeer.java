// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector.lanes;

import org.exeunt.bench.contenders.Peer;

/** A peer that shares its work out among as many threads as it may use. */
public abstract class VectorPeer implements Peer {
  public final Workers workers;

  public VectorPeer(int threads) {
    workers = Workers.of(threads);
  }
}
