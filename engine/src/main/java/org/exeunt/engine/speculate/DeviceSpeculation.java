// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate;

/**
 * What a GPU drafts by.
 *
 * @param layers of the model that draft; 0: others do
 * @param ngram tokens to look up; 0: none are
 * @param longest most tokens of a draft
 * @param least probability of a token after which more are drafted
 */
public record DeviceSpeculation(int layers, int ngram, int longest, float least) {}
