// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.text;

import java.util.HashMap;
import java.util.Map;

/** Finds the special tokens that a text spells out; of several at one place, the longest. */
final class SpecialTokens {
  private final Node root = new Node();

  /** Texts that begin alike share their first nodes: a vocabulary may have thousands. */
  private static final class Node {
    final Map<Character, Node> next = new HashMap<>();
    int id = -1;
  }

  void add(String text, int id) {
    Node node = root;
    for (int i = 0; i < text.length(); i++) {
      node = node.next.computeIfAbsent(text.charAt(i), c -> new Node());
    }
    node.id = node.id < 0 ? id : node.id;
  }

  /** The longest one at {@code start} of {@code text}, or -1. */
  int at(String text, int start) {
    int found = -1;
    Node node = root;
    for (int i = start; i < text.length(); i++) {
      node = node.next.get(text.charAt(i));
      if (node == null) {
        break;
      }
      found = node.id >= 0 ? node.id : found;
    }
    return found;
  }
}
