// SPDX-License-Identifier: Apache-2.0
#include <exeunt/embedding.h>

#include "backends.h"
#include "base/args/embedding.h"

namespace exn {
namespace {

void check_args(const exn_embedding_params& p, Check& check, EmbeddingArgs* a) {
  const Vector ids = check.vector("ids", p.ids, kI32Only, Role::kIn);
  a->ids = static_cast<const int32_t*>(ids.data);
  a->out = check.matrix("out", p.out, kFloats, Role::kOut);
  check.same("out", "rows", a->out.rows, "ids", ids.size);
  check.at_least("D (columns of out)", a->out.cols, 1);
  check.format("table_blocks", p.table_blocks);  // packed ones are not unpacked row by row
  a->table = check.weights("table", p.table, "table_blocks", p.table_blocks, "out", a->out.cols);
  check.at_least("V (rows of table)", a->table.rows, 1);
  check.finite("scale", p.scale);
  if (p.scale == 0) check.fail_argument("scale is 0, expected a finite value that is not 0");
  a->scale = p.scale;
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(embedding, EmbeddingArgs, check_args)
