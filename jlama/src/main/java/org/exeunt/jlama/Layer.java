// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import org.exeunt.Tensor;

/** The weights of one decoder layer. */
record Layer(Tensor attentionNorm, Weight query, Weight key, Weight value, Weight output,
    Tensor feedForwardNorm, Weight gate, Weight up, Weight down) {}
