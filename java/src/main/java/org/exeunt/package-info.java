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
 *
 * <h2>Ops by family</h2>
 *
 * <ul>
 *   <li>exit: {@link RowStats}, {@link ExitHead}, {@link ExitRule}, {@link Gate}, {@link SsmStep},
 *       {@link Cosine}
 *   <li>stop: {@link StopRule}, {@link TokenBias}
 *   <li>stablemax: {@link StableMax}, {@link CrossEntropy}, {@link Elr}, {@link PerpGrad}
 *   <li>prune: {@link ColumnNorms}, {@link PruneMask}, {@link PruneApply}
 *   <li>speculate: {@link DraftRule}, {@link DraftLookup}, {@link Verify}
 *   <li>layerskip: {@link KvPropagate}, {@link HiddenStack}, {@link RowCompaction}, {@link
 *       LayerSchedule}
 *   <li>ffnskip: {@link Ffn}, {@link FfnSkipRule}
 *   <li>tokendrop: {@link AttentionScores}, {@link Select}, {@link HiredBudget}, {@link Gather},
 *       {@link KvCompact}
 *   <li>basic: {@link Embedding}, {@link Linear}, {@link Norm}, {@link Rope}, {@link RopeTable},
 *       {@link KvAppend}, {@link KvCopy}, {@link KvLength}, {@link Attention}
 * </ul>
 *
 * <h2>What ops are given</h2>
 *
 * <ul>
 *   <li>memory: {@link Scope}, {@link Tensor}, {@link DType}, {@link Workspace}, {@link
 *       NativeMemory}, {@link MappedFile}
 *   <li>weights in other forms: {@link BlockFormat}, {@link Packed}, {@link Screen}, {@link
 *       InputRounding}
 *   <li>structs of arguments: {@link KvCache}, {@link Statistics}, {@link Statistic}, {@link
 *       StatisticsBuilder}, {@link Normalizer}, {@link Selection}
 *   <li>where and when: {@link Op}, {@link Backend}, {@link Device}, {@link Stream}, {@link Event},
 *       {@link Graph}
 *   <li>what goes wrong: {@link Status}, {@link ExeuntException}, {@link DeviceLostException}
 * </ul>
 *
 * <h2>Ready-made</h2>
 *
 * <ul>
 *   <li>methods that drop tokens: {@link PromptLayer}, {@link PromptDistill}, {@link GemFilter},
 *       {@link SnapKv}, {@link H2o}, {@link FastV}, {@link PyramidDrop}, {@link Hired}
 *   <li>votes and ranks: {@link BatchVote}, {@link BordaVote}, {@link BetaRank}
 *   <li>fits and schedules: {@link TranslatorFit}, {@link FfnSkipFit}, {@link PruneSchedule}
 * </ul>
 */
@NullMarked package org.exeunt;

import org.jspecify.annotations.NullMarked;
