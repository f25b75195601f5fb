// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/** The tables of a schedule; thresholds are null where none were asked for. */
public record ScheduleResult(int[] layers, int[] count, int[] exitTest, float[] threshold) {}
