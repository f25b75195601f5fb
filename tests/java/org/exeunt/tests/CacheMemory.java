// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import java.util.function.IntPredicate;
import org.exeunt.DType;
import org.exeunt.KvCache.Layout;

/** K and V of a cache in host memory. */
final class CacheMemory {
  final CacheShape shape;
  final DType dtype;
  final HostTensor k;
  final HostTensor v;
  final HostTensor blockTable;

  /** All NaN. */
  CacheMemory(CacheShape shape, DType dtype, int offset) {
    this.shape = shape;
    this.dtype = dtype;
    k = new HostTensor(dtype, shape.extents(), 0, offset);
    v = new HostTensor(dtype, shape.extents(), 0, offset);
    blockTable = shape.layout() == Layout.PAGED ? table() : null;
  }

  private HostTensor table() {
    HostTensor t = HostTensor.of(DType.I32, shape.sequences(), shape.blocks());
    for (int i = 0; i < t.size(); i++) {
      t.setInteger(i, shape.pageOf()[i]);
    }
    return t;
  }

  /** Fills every slot that belongs to a sequence: K with a stream, V with the next one. */
  CacheMemory fillSlots(long seed, long stream) {
    fillSlots(k, seed, stream, "normal", 1, row -> true);
    fillSlots(v, seed, stream + 1, "normal", 1, row -> true);
    return this;
  }

  /** Fills those of a side's slots whose row, sequence * T + slot, is wanted. */
  void fillSlots(
      HostTensor side, long seed, long stream, String kind, float scale, IntPredicate wanted) {
    int rows = shape.sequences() * shape.slots();
    HostTensor values =
        HostTensor.of(dtype, rows, shape.columns()).fill(seed, stream, kind, scale, "-");
    for (int row = 0; row < rows; row++) {
      for (int h = 0; wanted.test(row) && h < shape.heads(); h++) {
        int to = shape.at(row / shape.slots(), row % shape.slots(), h);
        side.copyFrom(values, row, h * shape.dim(), 0, to, shape.dim());
      }
    }
  }

  /** The same with the low bits of words, whatever they mean. */
  CacheMemory fillBits(long seed, long stream) {
    int columns = shape.columns();
    for (int row = 0; row < shape.sequences() * shape.slots(); row++) {
      for (int i = 0; i < columns; i++) {
        int at =
            shape.at(row / shape.slots(), row % shape.slots(), i / shape.dim()) + i % shape.dim();
        long element = (long) row * columns + i;
        k.setBits(0, at, Words.word(seed, stream, element));
        v.setBits(0, at, Words.word(seed, stream + 1, element));
      }
    }
    return this;
  }

  /** Block b of sequence s is entry {@code s * blocks + b}. */
  void setPage(int entry, int page) {
    blockTable.setInteger(entry, page);
    shape.pageOf()[entry] = page;
  }

  CacheMemory copy() {
    CacheMemory t = new CacheMemory(shape, dtype, k.offset);
    t.k.bytes.put(0, k.bytes, 0, k.bytes.capacity());
    t.v.bytes.put(0, v.bytes, 0, v.bytes.capacity());
    return t;
  }

  Contents contents() {
    return new Contents();
  }

  /** What a cache should hold; at first what it holds now. */
  final class Contents {
    final Expected[] k = unchanged(CacheMemory.this.k);
    final Expected[] v = unchanged(CacheMemory.this.v);

    /** Puts a row of K and V, heads one after another, into a slot. */
    void put(int sequence, int slot, Expected[] key, Expected[] value) {
      for (int i = 0; i < key.length; i++) {
        int to = shape.at(sequence, slot, i / shape.dim()) + i % shape.dim();
        k[to] = key[i];
        v[to] = value[i];
      }
    }

    void check(String what, PlacedCache placed) {
      Expected.checkAll(what + ", k", k, placed.k().read());
      Expected.checkAll(what + ", v", v, placed.v().read());
    }
  }

  private static Expected[] unchanged(HostTensor t) {
    Expected[] all = new Expected[t.size()];
    for (int i = 0; i < all.length; i++) {
      all[i] = new Expected(t.at(i), 0);
    }
    return all;
  }
}
