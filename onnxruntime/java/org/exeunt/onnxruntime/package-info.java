// SPDX-License-Identifier: Apache-2.0
/** exeunt's kernels behind ONNX Runtime. */
package org.exeunt.onnxruntime;
