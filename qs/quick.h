// SPDX-License-Identifier: Apache-2.0
// The short way for what is asked most: GETs that stand alone on their connection and that memory
// can answer are answered where they stand, without a request (qs/request.h). They see and say what
// the long way would; whatever is not plain goes there. Loop thread.
#ifndef QS_QS_QUICK_H
#define QS_QS_QUICK_H

#include "qs/session.h"

// Answers the GETs that `data` begins with, as far as they are plain. Returns their bytes.
// *ret_slow: the next one is a GET that needs the long way.
size_t quick_run(struct session *session, struct bytes data, bool *ret_slow);

#endif
