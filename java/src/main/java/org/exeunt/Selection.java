// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_selection;
import org.jspecify.annotations.Nullable;

/**
 * How many columns of each row of scores are kept, and where the list of them goes: for {@link
 * Select}, and for {@link AttentionScores}, which selects in the run that scores. Immutable; holds
 * no memory of its own.
 *
 * <p>Of the N columns of row r
 *
 * <ul>
 *   <li>kept are those in a range of {@code keep}, whatever they score, beside the k best;
 *   <li>left out are those in a range of {@code drop}, unless a range of {@code keep} holds them
 *       too;
 *   <li>candidates are the others below {@code limit[r]}.
 * </ul>
 *
 * <p>Each row keeps its k best candidates, or, with {@code budget}, as many as that says; with
 * {@code segments}, each segment {@code [segments[g], segments[g+1])} keeps the best of its own,
 * and what lies in no segment is no candidate. More than there are candidates means all of them.
 * Equal scores (-0 equals +0) go to the smaller column, -inf is the lowest score, +inf the highest.
 *
 * <pre>
 *   indices[r] = the columns kept, ascending, then -1 up to K
 *   count[r]   = how many are kept
 * </pre>
 *
 * <p>Where {@code count[r]} exceeds K the list ends after the first K: give it room for k and the
 * kept ranges. A row with a NaN among its candidates is invalid and keeps everything, all columns
 * below {@code limit[r]}, those of {@code drop} too, and the ranges of {@code keep}: a token is
 * never lost to a broken score. The scores of other columns are not looked at.
 *
 * <p>Budgets, ranges and segments are read from device memory, so that a decision taken there needs
 * no detour. A negative budget, or a range or segments that fall or leave 0 to N, is an {@link
 * IllegalArgumentException} on the CPU, with nothing written; on CUDA they are clamped to what is
 * possible, and a range that falls is empty, as is a segment up to the largest boundary before it.
 *
 * @param indices out, [R,K], I32, compact; K at least {@code min(k, N)} where no budget is given
 * @param count out, optional, [R], I32, compact; may exceed K
 * @param valid out, optional, [R], U8, compact; 0: the row has a NaN and keeps everything
 * @param budget in, optional, [R], or [R,G] with segments, I32, compact; null: k everywhere
 * @param segments in, optional, [G+1], I32, compact, ascending, for all rows; null: one of N
 *     columns
 * @param keep in, optional, [M,2] for all rows or [R,M,2], I32, compact: ranges of columns, begin
 *     and the end after them
 * @param drop in, optional, shaped as {@code keep}
 * @param k 0 or more; not used where a budget is given
 */
public record Selection(Tensor indices, @Nullable Tensor count, @Nullable Tensor valid,
    @Nullable Tensor budget, @Nullable Tensor segments, @Nullable Tensor keep,
    @Nullable Tensor drop, long k) {
  /**
   * The k best of each row, or of each segment.
   *
   * @param k 0 or more
   * @param indices out, [R,K], I32, compact
   * @return the selection
   */
  public static Selection top(long k, Tensor indices) {
    return new Selection(indices, null, null, null, null, null, null, k);
  }

  /**
   * As many of each row, or of each segment, as device memory says when the op runs; {@link
   * HiredBudget} writes such budgets.
   *
   * @param budget in, [R], or [R,G] with segments, I32, compact, entries of 0 or more
   * @param indices out, [R,K], I32, compact
   * @return the selection
   */
  public static Selection top(Tensor budget, Tensor indices) {
    return new Selection(indices, null, null, budget, null, null, null, 0);
  }

  /**
   * Allocates lists, counts and flags on {@link Device#defaultDevice()}; see {@link
   * #allocate(Scope, Device, long, long)}.
   *
   * @param scope owns the memory
   * @param rows R
   * @param k how many to keep of each row; also the room K of its list
   * @return the selection
   */
  public static Selection allocate(Scope scope, long rows, long k) {
    return allocate(scope, Device.defaultDevice(), rows, k);
  }

  /**
   * Allocates lists, counts and flags.
   *
   * @param scope owns the memory
   * @param device device of the scores
   * @param rows R
   * @param k how many to keep of each row; also the room K of its list, so make it larger and ask
   *     for fewer ({@link #withK}) or give a budget where ranges are kept beside the best
   * @return the selection
   */
  public static Selection allocate(Scope scope, Device device, long rows, long k) {
    Tensor indices = Named.present("scope", scope).allocate(device, DType.I32, rows, k);
    Tensor count = null;
    try {
      count = scope.allocate(device, DType.I32, rows);
      return top(k, indices).withCount(count).withValid(scope.allocate(device, DType.U8, rows));
    } catch (RuntimeException | Error e) {
      scope.discard(e, indices);
      if (count != null) {
        scope.discard(e, count);
      }
      throw e;
    }
  }

  /**
   * This selection with another k.
   *
   * @param most 0 or more
   * @return a new selection
   */
  public Selection withK(long most) {
    return new Selection(indices, count, valid, budget, segments, keep, drop, most);
  }

  /**
   * This selection, which also hands out how many columns are kept.
   *
   * @param tensor out, optional, [R], I32, compact
   * @return a new selection
   */
  public Selection withCount(@Nullable Tensor tensor) {
    return new Selection(indices, tensor, valid, budget, segments, keep, drop, k);
  }

  /**
   * This selection, which also hands out which rows could be judged.
   *
   * @param tensor out, optional, [R], U8, compact
   * @return a new selection
   */
  public Selection withValid(@Nullable Tensor tensor) {
    return new Selection(indices, count, tensor, budget, segments, keep, drop, k);
  }

  /**
   * This selection with budgets in the place of k.
   *
   * @param tensor in, optional, [R], or [R,G] with segments, I32, compact, entries of 0 or more
   * @return a new selection
   */
  public Selection withBudget(@Nullable Tensor tensor) {
    return new Selection(indices, count, valid, tensor, segments, keep, drop, k);
  }

  /**
   * This selection, made in each of several segments of the columns.
   *
   * @param tensor in, optional, [G+1], I32, compact, ascending, entries from 0 to N: segment g
   *     begins at entry g and ends before entry g + 1
   * @return a new selection
   */
  public Selection withSegments(@Nullable Tensor tensor) {
    return new Selection(indices, count, valid, budget, tensor, keep, drop, k);
  }

  /**
   * This selection with columns that are kept whatever they score, beside the best.
   *
   * @param ranges in, optional, [M,2] for all rows or [R,M,2], I32, compact
   * @return a new selection
   */
  public Selection withKeep(@Nullable Tensor ranges) {
    return new Selection(indices, count, valid, budget, segments, ranges, drop, k);
  }

  /**
   * This selection with columns that are left out whatever they score, unless they are kept.
   *
   * @param ranges in, optional, [M,2] for all rows or [R,M,2], I32, compact
   * @return a new selection
   */
  public Selection withDrop(@Nullable Tensor ranges) {
    return new Selection(indices, count, valid, budget, segments, keep, ranges, k);
  }

  /** Frees what {@link #allocate(Scope, Device, long, long)} had made for a call that failed. */
  void discard(Scope scope, Throwable cause) {
    scope.discard(cause, indices, count, valid);
  }

  /** Fills the field {@code selection} of a params struct; null asks for none. */
  static void write(Selection selection, Params params) {
    if (selection == null) {
      return;
    }
    params.inside("selection", exn_selection.class)
        .written("indices", selection.indices)
        .written("count", selection.count)
        .written("valid", selection.valid)
        .tensor("budget", selection.budget)
        .tensor("segments", selection.segments)
        .tensor("keep", selection.keep)
        .tensor("drop", selection.drop)
        .int64("k", selection.k);
  }
}
