// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import java.util.List;
import java.util.stream.Stream;
import org.exeunt.KvCache;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** A cache on the device under test, between guards. */
record PlacedCache(Placed k, Placed v, Placed blockTable, KvCache.Layout layout) {
  static PlacedCache of(Scope scope, CacheMemory memory) {
    Placed table = memory.blockTable == null ? null : new Placed(scope, memory.blockTable);
    return new PlacedCache(
        new Placed(scope, memory.k), new Placed(scope, memory.v), table, memory.shape.layout());
  }

  KvCache described() {
    return described(
        layout, k.tensor(), v.tensor(), blockTable == null ? null : blockTable.tensor());
  }

  static KvCache described(KvCache.Layout layout, Tensor k, Tensor v, Tensor blockTable) {
    switch (layout) {
      case HEAD_MAJOR:
        return KvCache.ofHeadMajor(k, v);
      case TOKEN_MAJOR:
        return KvCache.ofTokenMajor(k, v);
      default:
        return KvCache.ofPages(k, v, blockTable);
    }
  }

  static Placed[] sides(List<PlacedCache> caches) {
    return caches.stream().flatMap(c -> Stream.of(c.k, c.v)).toArray(Placed[]::new);
  }
}
