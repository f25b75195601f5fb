/* SPDX-License-Identifier: Apache-2.0 */
/* All of exeunt's C ABI. */
#ifndef EXEUNT_EXEUNT_H
#define EXEUNT_EXEUNT_H

#include <exeunt/core.h>
#include <exeunt/cosine.h>
#include <exeunt/exit_head.h>
#include <exeunt/exit_rule.h>
#include <exeunt/gate.h>
#include <exeunt/perp_grad.h>
#include <exeunt/row_stats.h>
#include <exeunt/stablemax.h>

#endif
