// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cache.h"
#include "case_table_cache.h"
#include "judge.h"
