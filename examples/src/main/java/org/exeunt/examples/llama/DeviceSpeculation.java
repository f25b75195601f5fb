// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import org.exeunt.Stream;

/**
 * What a GPU drafts by.
 *
 * @param layers of the model that draft; 0: others do
 * @param ngram tokens to look up; 0: none are
 * @param longest most tokens of a draft
 * @param least probability of a token behind which more are drafted
 */
record DeviceSpeculation(int layers, int ngram, int longest, float least) {
  /** @param drafting a second model; null: none drafts */
  DeviceDraft draft(DeviceRound round, LlamaWeights drafting, Stream stream) {
    if (ngram > 0) {
      return new DeviceLookupDraft(round, ngram);
    }
    return layers > 0
        ? new DeviceSelfDraft(round, layers, least)
        : new DeviceModelDraft(round, drafting, stream, least);
  }
}
