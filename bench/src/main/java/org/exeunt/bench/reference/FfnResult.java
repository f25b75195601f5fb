// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/**
 * What a feed-forward block delivers.
 *
 * @param out row-major
 * @param cosine of input and output of each row; null where nobody asked
 */
public record FfnResult(float[] out, float[] cosine) {}
