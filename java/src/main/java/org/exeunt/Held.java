// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.lang.reflect.Field;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.bytedeco.javacpp.Pointer;

/**
 * A JavaCPP pointer of tensors. While it is acquired, closing it (or its {@code PointerScope})
 * does not free the memory: the last of those who acquired it does.
 *
 * <p>JavaCPP counts references, frees where the count falls to 0, and starts a new pointer at 0. So
 * one reference is added to a pointer that has none, which changes nothing for {@code close()}, and
 * some for each acquisition: a pointer may well be closed twice, itself and with its scope. {@code
 * deallocate()} does not look at the count, and what has no deallocator, or a buffer's, has none:
 * that cannot be held.
 */
final class Held {
  static final Held[] NONE = {};

  /** As long as a deallocator may take, before it must have failed. */
  private static final long PATIENCE_NS = 1_000_000_000;

  private static final int SPINS = 100;
  private static final int REFERENCES = 4; // of an acquisition

  /**
   * The thread that changes counts; null: none does. Of two who add to the count of a pointer that
   * is being freed at this moment, the second would think that it is in use; and two who give back
   * the last references, after the user has closed it twice, would both free it. Pointers that
   * share a count do not tell, so it is one lock for all.
   */
  private static final class Lock {
    static final AtomicReference<Thread> HOLDER = new AtomicReference<>();
  }

  final Held[] alone = {this};
  private final Pointer pointer;
  private final long address;
  private final boolean counted;
  private final AtomicInteger count; // null: only JavaCPP changes it
  private boolean gone; // under the lock; a deallocator failed, and the count says nothing

  private Held(Pointer pointer) {
    this.pointer = pointer;
    address = pointer.address();
    boolean locked = lock();
    try {
      if (pointer.referenceCount() == 0) {
        pointer.retainReference();
      }
      counted = pointer.referenceCount() > 0;
      count = counted && Counts.TO_COUNT != null ? count(pointer) : null;
    } finally {
      unlock(locked);
    }
  }

  /** Null where the owner of some memory is no pointer. */
  static Held of(Object owner) {
    if (!(owner instanceof Pointer pointer)) {
      return null;
    }
    StackRoom.require();
    return new Held(pointer);
  }

  /** All or, with an exception, none. */
  static void acquire(Held[] all) {
    if (all.length == 0) {
      return;
    }
    int held = 0;
    boolean locked = lock();
    try {
      while (held < all.length) {
        all[held].retain();
        held++;
      }
    } finally {
      unlock(locked);
      if (held < all.length) {
        release(all, held);
      }
    }
  }

  static void release(Held[] all) {
    release(all, all.length);
  }

  private static void release(Held[] all, int count) {
    if (count == 0) {
      return;
    }
    Throwable failure = null;
    boolean locked = lock();
    for (int i = 0; i < count; i++) {
      try {
        all[i].release();
      } catch (Throwable t) {
        failure = t;
      }
    }
    unlock(locked);
    if (failure != null) {
      throw failed(failure);
    }
  }

  /** What a deallocator of the user's may throw here. */
  private static RuntimeException failed(Throwable failure) {
    if (failure instanceof Error error) {
      throw error;
    }
    throw (RuntimeException) failure;
  }

  /** No more references than this one's own: the user's are gone, and nothing else holds it. */
  private void release() {
    for (int own = REFERENCES; counted && own > 0; own--) {
      if (pointer.referenceCount() <= own) {
        freeClosed();
        return;
      }
      giveBack();
    }
  }

  /**
   * Never the last one where that can be seen to, since a second close() would free what this frees
   * just now. Where it cannot, it takes both between the look and the end of freeing.
   */
  private void giveBack() {
    if (count == null) {
      pointer.releaseReference();
      return;
    }
    int now;
    do {
      now = count.get();
      if (now <= 1) {
        freeClosed();
        return;
      }
    } while (!count.compareAndSet(now, now - 1));
  }

  private static AtomicInteger count(Pointer pointer) {
    try {
      Object counting = Counts.TO_COUNT[0].get(pointer);
      while (Counts.TO_COUNT[1].getDeclaringClass().isInstance(counting)) {
        counting = Counts.TO_COUNT[0].get(Counts.TO_COUNT[1].get(counting));
      }
      return counting == null ? null : (AtomicInteger) Counts.TO_COUNT[2].get(counting);
    } catch (IllegalAccessException e) {
      throw new IllegalStateException(e);
    }
  }

  /** Known with the first pointer, as looking there initialises JavaCPP's Pointer. */
  private static final class Counts {
    /** Where JavaCPP keeps the count; null where its module is not open to us. */
    static final Field[] TO_COUNT = fields("Pointer.deallocator",
        "Pointer$ProxyDeallocator.pointer", "Pointer$DeallocatorReference.count");

    private static Field[] fields(String... names) {
      Field[] fields = new Field[names.length];
      try {
        for (int i = 0; i < names.length; i++) {
          int dot = names[i].indexOf('.');
          fields[i] = Class.forName("org.bytedeco.javacpp." + names[i].substring(0, dot))
                          .getDeclaredField(names[i].substring(dot + 1));
          fields[i].setAccessible(true);
        }
        return fields;
      } catch (ReflectiveOperationException | RuntimeException e) {
        return null;
      }
    }
  }

  /**
   * Frees what was closed during the run, unless somebody does. Another close() that comes just now
   * would count down from 0 and free it again, hence the references that are never given back.
   */
  private void freeClosed() {
    if (pointer.referenceCount() > 0 && addReferences()) {
      pointer.deallocate();
    }
  }

  boolean isOpen() {
    return !pointer.isNull() && (!counted || pointer.referenceCount() > 0);
  }

  boolean sameAs(Held other) {
    return pointer == other.pointer && address == other.address;
  }

  private void retain() {
    if (pointer.address() != address) {
      throw closed(", or moved: address 0x" + Long.toHexString(pointer.address()) + ", was 0x"
          + Long.toHexString(address));
    }
    if (!counted) {
      return;
    }
    if (gone || pointer.referenceCount() < 1 || !addReferences()) {
      throw closed("");
    }
  }

  /**
   * There was one before, so a count below 2 may have been 0 meanwhile. That is looked for after
   * each of them: two may be closed between any two.
   */
  private boolean addReferences() {
    for (int i = 0; i < REFERENCES; i++) {
      pointer.retainReference();
      if (pointer.referenceCount() < 2) {
        awaitFreed();
        return false;
      }
    }
    return true;
  }

  /**
   * Somebody frees the memory just now. The reference cannot be given back, which would free it
   * again, and must not be taken for one of a user's: nothing else looks before it is gone.
   */
  private void awaitFreed() {
    gone = true;
    long start = System.nanoTime();
    while (pointer.referenceCount() >= 0 && System.nanoTime() - start < PATIENCE_NS) {
      Thread.yield();
    }
  }

  private IllegalStateException closed(String more) {
    return new IllegalStateException(
        "the " + pointer.getClass().getSimpleName() + " behind a tensor was closed" + more);
  }

  /** False if this thread has it already: a deallocator of the user's runs an op. */
  private static boolean lock() {
    Thread self = Thread.currentThread();
    for (int spins = 0; !Lock.HOLDER.compareAndSet(null, self); spins++) {
      if (Lock.HOLDER.get() == self) {
        return false;
      }
      if (spins < SPINS) {
        Thread.onSpinWait();
      } else {
        Thread.yield(); // its holder may have lost its core
      }
    }
    return true;
  }

  private static void unlock(boolean locked) {
    if (locked) {
      Lock.HOLDER.setRelease(null);
    }
  }
}
