/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether two hidden states may leave the model here: the head's statistics without its logits, and
 * a rule on them.
 */
#include <exeunt/exeunt.h>
#include <stdio.h>
#include <stdlib.h>

static DLTensor tensor(void* data, uint8_t code, uint8_t bits, int32_t ndim, int64_t* shape) {
  DLTensor t = {data, {kDLCPU, 0}, ndim, {code, bits, 1}, shape, NULL, 0};
  return t;
}

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, exn_last_error());
  return 1;
}

int main(void) {
  if (exn_abi_version() != EXN_ABI_VERSION) {
    fprintf(stderr, "%s has ABI %u, but this was built for %d\n", exn_library_path(),
            exn_abi_version(), EXN_ABI_VERSION);
    return 1;
  }
  float hidden[2][4] = {{5, 1, 0, 0}, {0, 3, 1, 1}};
  float norm[4] = {1, 1, 1, 1};
  float weight[3][4] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 1}};
  int32_t token[2];
  float p1[2];
  int64_t states[] = {2, 4}, rows[] = {2}, columns[] = {4}, head[] = {3, 4};
  DLTensor h = tensor(hidden, kDLFloat, 32, 2, states), g = tensor(norm, kDLFloat, 32, 1, columns);
  DLTensor w = tensor(weight, kDLFloat, 32, 2, head);
  DLTensor argmax = tensor(token, kDLInt, 32, 1, rows), top = tensor(p1, kDLFloat, 32, 1, rows);

  exn_exit_head_params params = {.struct_size = sizeof params,
                                 .hidden = &h,
                                 .weight = &w,
                                 .norm = EXN_NORM_RMS,
                                 .norm_weight = &g,
                                 .norm_eps = 1e-5f,
                                 .temperature = 1,
                                 .out = {.argmax = &argmax, .p1 = &top}};
  size_t bytes = 0;
  if (exn_exit_head_workspace_size(&params, &bytes) != EXN_OK) return failed("exit head");
  void* workspace = NULL;
  if (bytes > 0 && posix_memalign(&workspace, EXN_WORKSPACE_ALIGN, bytes) != 0) {
    fprintf(stderr, "no memory\n");
    return 1;
  }
  const exn_status status = exn_exit_head(&params, workspace, bytes, NULL);
  free(workspace);
  if (status != EXN_OK) return failed("exit head");
  for (int r = 0; r < 2; ++r) {
    printf("token %d, p %.4f: %s\n", token[r], p1[r], p1[r] >= 0.6f ? "leaves" : "goes on");
  }
  return 0;
}
