// SPDX-License-Identifier: Apache-2.0
// The model of the store once more, to be linked beside the real one.
#include "tests/sim/store_names.h"

#include "tests/sim/store_model.c"

#include "tests/sim/store_calls.h"

const struct store_calls model_store_calls = STORE_CALLS;
