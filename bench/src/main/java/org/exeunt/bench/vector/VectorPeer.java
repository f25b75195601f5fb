// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.bench.contenders.Peer;

/** A peer that shares its work out among as many threads as it may use. */
abstract class VectorPeer implements Peer {
  final Workers workers;

  VectorPeer(int threads) {
    workers = Workers.of(threads);
  }
}
