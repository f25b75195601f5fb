// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.tensor.AbstractTensor;
import com.github.tjake.jlama.tensor.Q4ByteBufferTensor;
import com.github.tjake.jlama.tensor.operations.TensorOperations;
import java.lang.foreign.MemorySegment;
import java.lang.ref.Reference;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.LongAdder;
import org.exeunt.Backend;
import org.exeunt.jni.global.exeunt;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Jlama's products of activations and weights, or of queries and keys, by exeunt's {@code linear}:
 * on Jlama's memory, in place, but for 4-bit weights, of which {@link Q4Weights} keeps a copy in
 * another order. All methods may be called from any thread.
 */
public final class Products {
  private static final Logger LOG = LoggerFactory.getLogger(Products.class);
  private static final LongAdder TAKEN = new LongAdder();
  private static final LongAdder LEFT = new LongAdder();
  private static final Set<String> LEFT_FOR = ConcurrentHashMap.newKeySet();
  private static final ThreadLocal<LinearCall> CALL = ThreadLocal.withInitial(LinearCall::new);

  private Products() {}

  /**
   * Loads exeunt and looks whether this is a Jlama that it fits.
   *
   * @param operations what Jlama is given
   * @throws UnsupportedOperationException with the reason, which is logged as well
   */
  public static void open(Class<? extends TensorOperations> operations) {
    String reason = JlamaVersion.misfit(TensorOperations.class, operations);
    if (reason.isEmpty()) {
      reason = reason();
    }
    if (!reason.isEmpty()) {
      String sentence = "Jlama goes on without exeunt: " + reason;
      LOG.warn(sentence);
      throw new UnsupportedOperationException(sentence);
    }
  }

  /** Why exeunt cannot run here, or nothing. */
  static String reason() {
    try {
      return Backend.CPU.reason();
    } catch (NoClassDefFoundError e) {
      return "the class path has no " + e.getMessage();
    } catch (IllegalArgumentException | LinkageError e) {
      return String.valueOf(e.getMessage());
    }
  }

  /**
   * How Jlama calls its operations in its log.
   *
   * @return exeunt's version and instruction set
   */
  public static String name() {
    return "exeunt " + Backend.version() + " (" + Backend.isa() + ")";
  }

  /**
   * Products that exeunt computed since the process began.
   *
   * @return their number, of all threads
   */
  public static long taken() {
    return TAKEN.sum();
  }

  /**
   * Products that were left to Jlama, of types or layouts that exeunt does not take; each reason is
   * logged once.
   *
   * @return their number, of all threads
   */
  public static long left() {
    return LEFT.sum();
  }

  /**
   * {@code result[i, resultOffset + j] = sum over k of a[i, aColumn + k] b[j, bColumn + k]} for
   * {@code bRow <= j < bRow + rows} and {@code k < columns}, as Jlama's {@code batchDotProduct}.
   *
   * @return false if nothing was done, since exeunt does not take such tensors
   */
  @SuppressWarnings("rawtypes")
  public static boolean multiply(AbstractTensor result, AbstractTensor a, AbstractTensor b,
      int aColumn, int bColumn, int columns, int resultOffset, int bRow, int rows) {
    LinearCall.Matrix input = matrix(a, 0, aColumn, a.shape().first(), columns);
    LinearCall.Matrix out = matrix(result, 0, bRow + resultOffset, a.shape().first(), rows);
    Q4Weights packed = null;
    LinearCall.Matrix weight;
    if (b.dType() == DType.Q4) {
      packed = Q4Weights.of((Q4ByteBufferTensor) b);
      weight = packed == null ? null : packed.matrix(bRow, bColumn, rows, columns);
    } else {
      weight = matrix(b, bRow, bColumn, rows, columns);
    }
    if (input == null || out == null || weight == null) {
      return leave(a, b, result, "types or memory that exeunt's linear does not take");
    }
    Threads.settle();
    int status = CALL.get().run(
        input, weight, packed == null ? exeunt.EXN_BLOCKS_NONE : exeunt.EXN_BLOCKS_Q4_0, out);
    Reference.reachabilityFence(a);
    Reference.reachabilityFence(b);
    Reference.reachabilityFence(result);
    if (status != exeunt.EXN_OK) {
      return leave(a, b, result, LinearCall.why());
    }
    TAKEN.increment();
    return true;
  }

  @SuppressWarnings("rawtypes")
  private static LinearCall.Matrix matrix(
      AbstractTensor t, int row, int column, int rows, int columns) {
    Element element = Element.of(t.dType());
    MemorySegment memory = element == null || t.dims() != 2 ? null : Aligned.of(t, element.bytes());
    if (memory == null) {
      return null;
    }
    long first = t.getOffset(row, column);
    long stride = rows == 1 ? columns : t.getStride();
    return new LinearCall.Matrix(
        memory.address() + first * element.bytes(), element, rows, columns, stride);
  }

  @SuppressWarnings("rawtypes")
  private static boolean leave(
      AbstractTensor a, AbstractTensor b, AbstractTensor result, String reason) {
    LEFT.increment();
    String types = a.dType() + " x " + b.dType() + " to " + result.dType();
    if (LEFT_FOR.add(types)) {
      LOG.info("left to Jlama: {}: {}", types, reason);
    }
    return false;
  }

  /**
   * In how many parts Jlama cuts a product, each of which is one call. Not 1, which Jlama 0.8.4
   * takes for one part for each row; and no more than 8, since it forgets rows where the last part
   * would have to be more than twice as long as the others, as parts of 8 or more rows cannot be.
   *
   * @return 2 to 8
   */
  public static int parts() {
    return Math.clamp(Threads.settle(), 2, Threads.MOST_PARTS);
  }
}
