// SPDX-License-Identifier: Apache-2.0
/** exeunt's kernels after ONNX Runtime. */
package org.exeunt.onnxruntime;
