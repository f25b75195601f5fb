// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/** How many entries a stack has, and their rows and tags; what comes after those does not count. */
public record StackResult(int count, float[] rows, int[] tags) {}
