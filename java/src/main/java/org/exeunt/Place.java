// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * Where an op is built.
 *
 * @param owner closes it; null: the caller does
 * @param workspace what it shares with other ops; null: it gets one of its own
 */
record Place(Scope owner, Workspace workspace) {}
