// SPDX-License-Identifier: Apache-2.0
/**
 * Early-exit transformer kernels: tensors that are views of native memory, and ops that are built
 * once and run many times.
 *
 * <pre>
 *   try (Scope scope = Scope.open()) {
 *     Tensor logits = Tensor.of(buffer, rows, vocabulary);
 *     Statistics out = Statistics.allocate(scope, rows, Statistic.ARGMAX, Statistic.P1);
 *     RowStats stats = RowStats.builder().logits(logits).out(out).build(scope);
 *     stats.run();
 *   }
 * </pre>
 *
 * <p>System properties: {@code exeunt.backend} (cpu or cuda), {@code exeunt.cuda.library} (file),
 * {@code exeunt.isa} (baseline, avx2, vnni, avx512, amx or neon), {@code exeunt.threads} (0: one per
 * core), {@code exeunt.log} (true: the logger "org.exeunt" is told what is loaded), {@code
 * exeunt.leaks} (true: and where a scope was opened that nobody closed);
 * see {@link org.exeunt.Backend}. {@link org.exeunt.Op} says what holds for every op: errors,
 * threads, streams, aliasing, alignment; {@link org.exeunt.Scope} who frees what. A null where
 * no {@code @Nullable} says that it may be one is a {@code NullPointerException}, or an {@code
 * IllegalArgumentException} that says which argument of an op is missing; neither changes anything.
 */
@NullMarked package org.exeunt;

import org.jspecify.annotations.NullMarked;
