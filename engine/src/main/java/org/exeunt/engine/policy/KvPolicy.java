// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.policy;

/** What becomes of the keys and values that a token which left early owes the layers above. */
public enum KvPolicy {
  /** They are computed from the state it left with (CALM's and FREE's state propagation). */
  PROPAGATE,
  /**
   * Its state is kept, and the deep layers run for it together with the next token that gets there
   * (EE-LLM's recomputation, FREE's synchronised decoding): exact, and paid for later.
   */
  RECOMPUTE,
  /** They are never written: later tokens do not see it in those layers. */
  NONE
}
