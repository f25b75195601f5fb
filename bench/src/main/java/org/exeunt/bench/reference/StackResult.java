// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/**
 * How many entries a stack has, their rows, [C, D], and their tags, [M, C]; what comes after those
 * entries does not count.
 */
public record StackResult(int count, float[] rows, int[] tags) {}
