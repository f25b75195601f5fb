// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.text;

import java.util.function.IntConsumer;

/** How a vocabulary spells text that holds no special tokens. */
interface Spelling {
  /** Hands on the tokens of {@code text}; bytes that the vocabulary cannot spell are left out. */
  void encode(String text, IntConsumer tokens);

  /** The bytes of a token that is not special. */
  byte[] bytes(int id);
}
