// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/** Scores [S, B, N] and lists [S B, K] that go with them; null for what was not asked for. */
public record ScoresResult(float[] scores, int[] indices) {}
