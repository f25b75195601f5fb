/* SPDX-License-Identifier: Apache-2.0 */
/* All of exeunt's C ABI. */
#ifndef EXEUNT_EXEUNT_H
#define EXEUNT_EXEUNT_H

#include <exeunt/attention.h>
#include <exeunt/attention_scores.h>
#include <exeunt/blocks.h>
#include <exeunt/column_norms.h>
#include <exeunt/core.h>
#include <exeunt/cosine.h>
#include <exeunt/device.h>
#include <exeunt/draft_lookup.h>
#include <exeunt/draft_rule.h>
#include <exeunt/elr.h>
#include <exeunt/embedding.h>
#include <exeunt/exit_head.h>
#include <exeunt/exit_rule.h>
#include <exeunt/ffn.h>
#include <exeunt/ffn_skip_rule.h>
#include <exeunt/gate.h>
#include <exeunt/gather.h>
#include <exeunt/hidden_stack.h>
#include <exeunt/hired_budget.h>
#include <exeunt/kv_cache.h>
#include <exeunt/kv_compact.h>
#include <exeunt/kv_propagate.h>
#include <exeunt/layer_schedule.h>
#include <exeunt/linear.h>
#include <exeunt/mapping.h>
#include <exeunt/norm.h>
#include <exeunt/pack.h>
#include <exeunt/perp_grad.h>
#include <exeunt/prune.h>
#include <exeunt/rope.h>
#include <exeunt/row_compaction.h>
#include <exeunt/row_stats.h>
#include <exeunt/screen.h>
#include <exeunt/select.h>
#include <exeunt/ssm_step.h>
#include <exeunt/stablemax.h>
#include <exeunt/stop_rule.h>
#include <exeunt/token_bias.h>
#include <exeunt/verify.h>

#endif
